using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;

namespace DmaBufIo.Cli.Copying;

/// <summary>Moves the buffer on a thread of its own, once for every so many requests, while the copy goes on.</summary>
/// <remarks>
/// The copy reports what it has submitted, waits until the move it has caused begins, and goes on: so moves do not pile up behind one that takes long,
/// and each finds requests in flight.
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
    internal Exception? Failure { get; private set; }

    /// <summary>Requests were submitted and are in flight. Causes a move when it is time, and waits until it has begun.</summary>
    internal void Submitted(int count)
    {
        _requests += count;
        long owed = Interlocked.Read(ref _owed);
        if (owed >= _requests / _every)
            return;

        // One per batch: a second one would find the map gone that the first has killed. What a large batch owes is made up by the next.
        Interlocked.Exchange(ref _owed, ++owed);
        _queue.WakeAll();
        _queue.Wait(() => Interlocked.Read(ref _begun) >= owed || Failure is not null, new WaitReason("mover of the buffer"));
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
                _queue.WakeAll();
                InvalidationReport report = _exporter.Move(_buffer);
                Moves++;
                if (report.Users > 0)
                    UnderLoad++;
            }
        }
        catch (DmaBufIoException e)
        {
            Failure = e; // the copy looks at it when it has joined the thread
            _queue.WakeAll();
        }
    }
}
