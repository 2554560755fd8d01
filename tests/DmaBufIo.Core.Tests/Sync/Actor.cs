using System.Diagnostics;
using System.Runtime.ExceptionServices;
using DmaBufIo.Diagnostics;

namespace DmaBufIo.Tests.SyncTests;

/// <summary>A named thread whose waits can be observed, so that a test puts threads exactly where it wants them.</summary>
internal sealed class Actor
{
    internal static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);
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

    internal static Actor Start(string name, Action work)
    {
        var actor = new Actor(name, work);
        actor._thread.Start();
        return actor;
    }

    /// <summary>Waits for the end of the thread and throws what it threw.</summary>
    internal void Join()
    {
        if (!_thread.Join(Limit))
            Assert.Fail($"{Name} did not end; it waits for: {string.Join("; ", Waits().Select(static w => w.WaitsFor))}\n{Everything()}");
        _failure?.Throw();
    }

    /// <summary>Who holds and who waits, of all tests that run at the moment.</summary>
    private static string Everything()
    {
        Snapshot snapshot = DmaBufIoDiagnostics.Snapshot();
        return string.Join('\n', [
            .. snapshot.Waits.Select(static w => w.ToString()),
            .. snapshot.Locks.Where(static l => l.Holder is not null).Select(static l => $"{l.Buffer} held by {l.Holder} for {l.HeldFor}, waiters: {string.Join(", ", l.Waiters)}"),
            .. snapshot.Fences.Select(static f => f.ToString()),
            .. snapshot.KilledMaps.Select(static m => m.ToString()),
            .. snapshot.Tokens.Select(static t => t.ToString())]);
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

    private List<WaitState> Waits() => [.. DmaBufIoDiagnostics.Snapshot().Waits.Where(w => w.Thread == Name)];
}
