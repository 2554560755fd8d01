using DmaBufIo.Importers.Rnic.Queues;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Hardware;

/// <summary>
/// A card's engine: goes round its queue pairs and does what is posted to their send queues, both ends of it: reading through the sender's port, writing through the receiver's. On a thread of its own, or
/// inline on whoever polls.
/// </summary>
/// <remarks>
/// <para>
/// References on maps are taken and dropped in a context of the engine's own, for one packet at a time (<see cref="Turn"/>). The context is entered per turn of a pair; a turn is bounded, so whoever drains a map waits for
/// a bounded stretch of DMA and for nothing else, also when messages wait for receives, peers or maps (T14, T15).
/// </para>
/// <para>
/// Waking. A poster stores its queue's tail, then loads <c>_sleeping</c>, and wakes the thread only if it is set. The thread, before it sleeps, stores <c>_sleeping = 1</c>, executes a process-wide barrier and looks at
/// everything once more. The barrier orders store and load of every poster: it either stored before it, and the look finds the request, or loads after it, and finds 1. So posting costs plain moves only.
/// </para>
/// </remarks>
internal sealed class RnicEngine : IDisposable
{
    /// <summary>Looks without work before the thread sleeps: less than a sleep and a wake cost both sides.</summary>
    // A wait takes no longer time than this; it looks again then.
    private static readonly TimeSpan s_longestSleep = TimeSpan.FromDays(1);

    private const int IdleRounds = 200;

    /// <summary>Of these, the first only pause; the others yield, because the host may need this core.</summary>
    private const int PausingRounds = 10;

    private readonly IoContext _context;
    private readonly Turn _current;
    private readonly Lock _turn = new(); // inline: one at a time
    private readonly Thread? _thread;
    private readonly AutoResetEvent _wake = new(initialState: false); // not disposed: a worker with a map may come at any time
    private volatile RnicQueuePair[] _pairs = [];
    private volatile bool _stopping;
    private int _sleeping;

    internal RnicEngine(string name, bool ownThread)
    {
        _context = new IoContext($"engine of {name}");
        _current = new Turn(_context);
        if (ownThread)
            _thread = new Thread(RunThread) { IsBackground = true, Name = $"{name} engine" };
    }

    /// <summary>True when it works by itself.</summary>
    internal bool HasThread => _thread is not null;

    /// <summary>Told of each moment of each access, for tests (<see cref="Turn.Observer"/>).</summary>
    internal Action<AccessStage, DmaBufToken, bool>? Observer { get; set; }

    internal void Start() => _thread?.UnsafeStart();

    internal void Add(RnicQueuePair pair)
    {
        lock (_turn)
            _pairs = [.. _pairs, pair];
    }

    internal void Remove(RnicQueuePair pair)
    {
        lock (_turn)
            _pairs = [.. _pairs.Where(p => p != pair)];
    }

    /// <summary>Something was posted.</summary>
    internal void RingDoorbell()
    {
        if (Volatile.Read(ref _sleeping) != 0)
            Wake();
    }

    /// <summary>Does what is posted, when there is no thread that does. Does not sleep; any thread.</summary>
    internal void Advance()
    {
        // Somebody else is at it, or this thread is: whoever polls comes again.
        if (HasThread || _turn.IsHeldByCurrentThread || !_turn.TryEnter())
            return;
        try
        {
            if (!_stopping)
                RunPass();
        }
        finally
        {
            _turn.Exit();
        }
    }

    /// <summary>Ends it. Nothing of its pairs' memory is touched after the return. May sleep.</summary>
    public void Dispose()
    {
        _stopping = true;
        _wake.Set();
        if (_thread is { IsAlive: true })
            _thread.Join();
        lock (_turn)
        {
            // An inline pass that was under way is over.
        }

        _context.Dispose();
    }

    private void Wake()
    {
        if (Interlocked.Exchange(ref _sleeping, 0) != 0)
            _wake.Set();
    }

    private void RunThread()
    {
        int idle = 0;
        while (!_stopping)
        {
            if (RunPass())
            {
                idle = 0;
            }
            else if (++idle < PausingRounds)
            {
                Thread.SpinWait(20);
            }
            else if (idle < IdleRounds)
            {
                Thread.Yield();
            }
            else
            {
                idle = 0;
                Sleep();
            }
        }
    }

    private void Sleep()
    {
        Volatile.Write(ref _sleeping, 1);
        Interlocked.MemoryBarrierProcessWide();
        if (!_stopping && !RunPass())
            _wake.WaitOne(_current.Deadline is { } deadline ? (deadline < s_longestSleep ? deadline : s_longestSleep) : Timeout.InfiniteTimeSpan);
        Volatile.Write(ref _sleeping, 0);
    }

    private bool RunPass()
    {
        bool worked = false;
        _current.ForgetDeadline();
        _current.Observer = Observer;
        foreach (RnicQueuePair pair in _pairs)
        {
            if (!pair.HasWork)
                continue;
            if (HasThread)
                _context.Enter();
            else if (!_context.TryEnter())
                break; // a visitor is in; who polls may be in the middle of a batch of its own and may not wait for it
            try
            {
                _current.Begin();
                worked |= pair.Serve(_current);
            }
            finally
            {
                _context.Leave();
            }
        }

        _current.Sink.Raise();
        return worked;
    }
}
