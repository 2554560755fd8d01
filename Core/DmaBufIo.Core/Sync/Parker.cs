using System.Diagnostics;
using DmaBufIo.Diagnostics;

namespace DmaBufIo.Sync;

/// <summary>
/// The one place where a thread of Core blocks: a permit per thread. <see cref="Unpark"/> gives it, waiting takes it; a permit given
/// early is not lost. All other primitives keep their state under short internal locks and park outside them.
/// </summary>
public sealed class Parker
{
    private static readonly Lock s_parkedLock = new();
    private static readonly HashSet<Parker> s_parked = [];
    private static int s_registered;

    [ThreadStatic]
    private static Parker? s_current;

    private readonly object _monitor = new();
    private readonly long _number = SchedulePoint.NewObject();
    private readonly string _thread;
    private bool _permit;
    private WaitReason _reason;
    private long _since;

    private Parker(Thread thread)
    {
        _thread = NameOf(thread);
        if (Interlocked.Exchange(ref s_registered, 1) == 0)
            SnapshotRegistry.Add(ParkedThreads.Instance);
    }

    /// <summary>The current thread's parker.</summary>
    public static Parker Current => s_current ??= new Parker(Thread.CurrentThread);

    /// <summary>The thread's name for messages.</summary>
    public string ThreadName => _thread;

    /// <summary>A thread's name, or its number when it has none.</summary>
    internal static string NameOf(Thread thread) => thread.Name ?? $"thread {thread.ManagedThreadId}";

    /// <summary>Gives the thread a permit: its current or next park returns. Never blocks for long; callable from completion context.</summary>
    public void Unpark()
    {
        if (SchedulePoint.Enabled)
            SchedulePoint.Reach(StepKind.Wake, _number);
        lock (_monitor)
        {
            _permit = true;
            Monitor.Pulse(_monitor);
        }
    }

    /// <summary>Waits for a permit and takes it. May return without one after <paramref name="slice"/>; callers re-check their condition in a loop.</summary>
    /// <param name="wait">The wait this is part of; remembers whether it was reported.</param>
    /// <param name="slice">The longest time to wait, or null.</param>
    internal void Park(ref Wait wait, TimeSpan? slice)
    {
        if (SchedulePoint.Enabled && SchedulePoint.Current is { } scheduler)
        {
            scheduler.Park(new ScheduleStep(StepKind.Wait, _number, false), () => _permit, slice is not null);
            _permit = false;
            return;
        }

        while (true)
        {
            TimeSpan untilReport = wait.UntilReport();
            TimeSpan limit = slice is { } s && s < untilReport ? s : untilReport;
            lock (_monitor)
            {
                if (!_permit)
                {
                    if (limit == TimeSpan.MaxValue)
                        Monitor.Wait(_monitor);
                    else if (!Monitor.Wait(_monitor, limit) && !_permit)
                        goto Elapsed;
                }

                _permit = false;
                return;
            }

        Elapsed:
            if (limit == untilReport)
                wait.ReportOnce(_thread);
            else
                return;
        }
    }

    /// <summary>Shows the thread as waiting in snapshots.</summary>
    internal void Begin(in Wait wait)
    {
        _reason = wait.Reason;
        _since = wait.Since;
        lock (s_parkedLock)
            s_parked.Add(this);
    }

    /// <summary>Ends <see cref="Begin"/>.</summary>
    internal void End()
    {
        lock (s_parkedLock)
            s_parked.Remove(this);

        // A thread that does not wait again for long must not keep what it waited for, and through it a plugin, alive.
        _reason = default;
    }

    private sealed class ParkedThreads : ISnapshotSource
    {
        internal static readonly ParkedThreads Instance = new();

        public void Describe(SnapshotBuilder snapshot)
        {
            lock (s_parkedLock)
            {
                foreach (Parker parker in s_parked)
                {
                    if (!parker._reason.IsIdle)
                        snapshot.Waits.Add(new WaitState(parker._thread, parker._reason.Describe(), Stopwatch.GetElapsedTime(parker._since)));
                }
            }
        }
    }
}
