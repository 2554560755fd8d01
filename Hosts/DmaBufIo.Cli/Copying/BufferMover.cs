using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Copying;

/// <summary>Moves the buffer on a thread of its own, once for every so many requests, while the copy goes on.</summary>
/// <remarks>
/// The copy reports what it has submitted, waits until the move it has caused has taken the buffer's lock and kills the maps, and goes on while the
/// move drains and copies: so moves do not pile up behind one that takes long, and each finds requests in flight.
/// </remarks>
internal sealed class BufferMover : IDisposable
{
    private readonly IMovableBuffers _exporter;
    private readonly DmaBuf _buffer;
    private readonly long _every;
    private readonly WaitQueue _queue = new();
    private readonly Thread _thread;
    private long _requests;
    private long _owed;
    private long _begun;
    private volatile bool _stopping;
    private volatile DmaBufIoException? _failure;

    internal BufferMover(IMovableBuffers exporter, DmaBuf buffer, long every)
    {
        _exporter = exporter;
        _buffer = buffer;
        _every = every;
        _thread = new Thread(Work) { Name = "mover", IsBackground = true };
        _thread.Start();
    }

    /// <summary>Moves made.</summary>
    internal long Moves { get; private set; }

    /// <summary>Moves that hit a map which requests were using.</summary>
    internal long UnderLoad { get; private set; }

    /// <summary>What ended the thread, or null.</summary>
    internal DmaBufIoException? Failure => _failure;

    /// <summary>How many requests may be submitted before the next move is due: a batch that ends there finds its move.</summary>
    internal int UntilNext => (int)Math.Min(int.MaxValue, _every - (_requests % _every));

    /// <summary>Requests were submitted and are in flight. Causes a move when it is time, and waits until it has killed.</summary>
    /// <param name="count">How many.</param>
    /// <param name="tokens">The tokens whose maps they use.</param>
    internal void Submitted(int count, List<DmaBufToken> tokens)
    {
        _requests += count;
        long owed = Interlocked.Read(ref _owed);
        if (owed >= _requests / _every)
            return;

        // One per batch: a second one would find the map gone that the first has killed.
        long generation = _buffer.Generation;
        Interlocked.Exchange(ref _owed, ++owed);
        _queue.WakeAll();

        // The generation advances when the lock is held, then the maps are killed; nothing announces it, so it is polled for that short time.
        var spin = default(SpinWait);
        while (_failure is null && (_buffer.Generation == generation || tokens.Exists(t => t.LiveGeneration <= generation)))
            spin.SpinOnce(sleep1Threshold: -1);
    }

    /// <summary>Nothing is in flight any more: ends the thread; what is still owed is forgotten.</summary>
    public void Dispose()
    {
        _stopping = true;
        _queue.WakeAll();
        _thread.Join();
    }

    private void Work()
    {
        try
        {
            while (true)
            {
                _queue.Wait(() => _stopping || Interlocked.Read(ref _owed) > Interlocked.Read(ref _begun), new WaitReason("requests to count") { IsIdle = true });
                if (_stopping)
                    return;
                Interlocked.Increment(ref _begun);
                InvalidationReport report = _exporter.Move(_buffer);
                Moves++;
                if (report.Users > 0)
                    UnderLoad++;
            }
        }
        catch (DmaBufIoException e)
        {
            _failure = e; // the copy looks at it when it has joined the thread
        }
    }
}
