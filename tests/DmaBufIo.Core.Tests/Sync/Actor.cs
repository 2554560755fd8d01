using System.Diagnostics;
using System.Runtime.ExceptionServices;
using DmaBufIo.Diagnostics;

namespace DmaBufIo.Tests.SyncTests;

/// <summary>A named thread whose waits can be observed, so that a test puts threads exactly where it wants them.</summary>
internal sealed class Actor
{
    /// <summary>How long anything that must come about may take; the runner of seeded faults is less patient.</summary>
    internal static readonly TimeSpan Limit =
        int.TryParse(Environment.GetEnvironmentVariable("DMABUFIO_TEST_LIMIT_SECONDS"), out int seconds)
            ? TimeSpan.FromSeconds(seconds) : TimeSpan.FromSeconds(30);

    private static int s_last;
    private readonly Thread _thread;
    private volatile bool _done;
    private ExceptionDispatchInfo? _failure;

    private Actor(string name, Action work)
    {
        Name = $"{name}-{Interlocked.Increment(ref s_last)}";
        _thread = new Thread(() =>
        {
            try
            {
                work();
            }
            catch (Exception e)
            {
                _failure = ExceptionDispatchInfo.Capture(e);
            }

            _done = true;
        })
        {
            IsBackground = true,
            Name = Name,
        };
    }

    internal string Name { get; }

    internal bool IsDone => _done;

    /// <summary>True while the thread is blocked, in a wait or in front of a lock.</summary>
    internal bool IsBlocked => (_thread.ThreadState & System.Threading.ThreadState.WaitSleepJoin) != 0;

    internal static Actor Start(string name, Action work)
    {
        var actor = new Actor(name, work);
        actor._thread.Start();
        return actor;
    }

    /// <summary>The wait that the thread is in, or its next one, throws <see cref="ThreadInterruptedException"/>.</summary>
    internal void Interrupt() => _thread.Interrupt();

    /// <summary>Waits for the end of the thread and throws what it threw.</summary>
    internal void Join()
    {
        if (!_thread.Join(Limit))
            Assert.Fail($"{Name} did not end; it waits for: {string.Join("; ", Waits().Select(static w => w.WaitsFor))}{Everything()}");
        _failure?.Throw();
    }

    /// <summary>Returns once the thread waits inside Core for something with this text. Fails when it ends instead.</summary>
    internal WaitState UntilItWaitsFor(string text)
    {
        long started = Stopwatch.GetTimestamp();
        while (true)
        {
            if (Waits().Find(w => w.WaitsFor.Contains(text, StringComparison.Ordinal)) is { } wait)
                return wait;
            if (_done)
            {
                Join();
                Assert.Fail($"{Name} ended instead of waiting for {text}");
            }

            if (Stopwatch.GetElapsedTime(started) > Limit)
                Assert.Fail($"{Name} does not wait for {text} but for: {string.Join("; ", Waits().Select(static w => w.WaitsFor))}");
            Thread.Yield();
        }
    }

    /// <summary>Returns once the condition holds; fails after the limit.</summary>
    internal static void Until(Func<bool> condition, string what)
    {
        long started = Stopwatch.GetTimestamp();
        while (!condition())
        {
            if (Stopwatch.GetElapsedTime(started) > Limit)
                Assert.Fail($"it did not come about that {what}");
            Thread.Yield();
        }
    }

    private static string Everything()
    {
        Snapshot snapshot = DmaBufIoDiagnostics.Snapshot();
        object[] parts = [.. snapshot.Waits, .. snapshot.Locks.Where(static l => l.Holder is not null),
            .. snapshot.Fences, .. snapshot.KilledMaps];
        return string.Concat(parts.Select(static p => $"\n  {p}"));
    }

    private List<WaitState> Waits() => [.. DmaBufIoDiagnostics.Snapshot().Waits.Where(w => w.Thread == Name)];
}
