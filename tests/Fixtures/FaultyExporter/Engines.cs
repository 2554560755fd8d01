using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;

namespace DmaBufIo.Fixtures.FaultyExporter;

/// <summary>A buffer of a job.</summary>
/// <param name="Buffer">The buffer.</param>
/// <param name="Writes">True when the job writes it.</param>
internal readonly record struct JobBuffer(OwnedBuffer Buffer, bool Writes);

/// <summary>
/// Takes jobs: locks all buffers in one acquire context, ends their maps in one invalidation, queues the job behind what is under way, and publishes its fence. One engine writes, two read.
/// </summary>
internal sealed class Engines : IDisposable
{
    private readonly Fault _fault;
    private readonly Engine _writer;
    private readonly Engine[] _readers;
    private int _next;
    private volatile bool _hasGivenUp;

    internal Engines(Fault fault)
    {
        _fault = fault;
        bool lastFirst = fault.Is("serves-the-last-first");
        _writer = new Engine("faulty writer", new Timeline(), lastFirst);
        var shared = new Timeline();
        _readers = [.. Enumerable.Range(0, 2).Select(i => new Engine($"faulty reader {i}", fault.Is("shares-a-timeline") ? shared : new Timeline(), lastFirst))];
    }

    internal Job Submit(JobBuffer[] buffers, Func<Place[], byte[]> work)
    {
        var job = new Job();
        if (_fault.Is("reserves-under-another-hold"))
        {
            foreach (JobBuffer each in buffers)
            {
                using ReservationGuard guard = each.Buffer.Buffer.Reservation.Lock();
                each.Buffer.Buffer.Reservation.Reserve(guard.Held, 1);
            }
        }

        AcquireContext? context = _fault.Is("locks-without-a-context") ? null : new AcquireContext();
        while (true)
        {
            using var batch = new InvalidationBatch();
            Errno status = Acquire(job, buffers, 0, context, batch, work);
            if (status == Errno.Ok)
                return job;
            if (status != Errno.EDEADLK)
                throw new DmaBufIoException(status, "faulty", buffers[0].Buffer.Buffer.Name, "the buffers of a job cannot be locked", "Try again");
        }
    }

    /// <summary>Moves a buffer on the engine that writes.</summary>
    internal InvalidationReport MoveThere(OwnedBuffer buffer)
    {
        InvalidationReport report = default;
        var moved = new DmaFence("faulty move", DmaFence.NewContext(), 1);
        _writer.Queue(new EngineJob(moved, [], () => report = buffer.Move(CancellationToken.None), static () => { }));
        moved.Wait();
        return report;
    }

    public void Dispose()
    {
        _writer.Dispose();
        foreach (Engine reader in _readers)
            reader.Dispose();
    }

    // One level per buffer: a lock is held by its level, and given back by it.
    private Errno Acquire(Job job, JobBuffer[] buffers, int index, AcquireContext? context, InvalidationBatch batch, Func<Place[], byte[]> work)
    {
        if (index == buffers.Length)
        {
            batch.Complete();
            Queue(job, buffers, work);
            return Errno.Ok;
        }

        (OwnedBuffer buffer, bool writes) = buffers[index];
        ReservationObject reservation = buffer.Buffer.Reservation;
        AcquireContext? own = _fault.Is("takes-a-context-per-buffer") ? new AcquireContext() : context;
        Errno status = reservation.TryLock(out ReservationGuard guard, own);
        while (status == Errno.EDEADLK && _fault.Is("ignores-wounds"))
        {
            Thread.Yield();
            status = reservation.TryLock(out guard, own);
        }

        if (status != Errno.Ok)
            return status;
        using (guard)
        {
            Invalidate(buffer.Buffer, writes, batch, guard.Held);
            if (!_fault.Is("reserves-no-room") && !_fault.Is("reserves-under-another-hold"))
                reservation.Reserve(guard.Held, 1);
            status = Acquire(job, buffers, index + 1, context, batch, work);
            if (status == Errno.Ok && (writes || buffers.Length == 1 || !_fault.Is("publishes-for-one-buffer")))
                reservation.Add(guard.Held, job.Fence, _fault.Is("publishes-as-bookkeeping") ? FenceUsage.Bookkeep : writes ? FenceUsage.Write : FenceUsage.Read);
            return status;
        }
    }

    private void Invalidate(DmaBuf buffer, bool writes, InvalidationBatch batch, in HeldReservation held)
    {
        if (_fault.Is("works-under-live-maps") || (_fault.Is("invalidates-only-what-it-writes") && !writes))
            return;
        if (_fault.Is("invalidates-one-by-one"))
            buffer.InvalidateMappings(held);
        else
            buffer.CollectInvalidation(batch, held);
    }

    private void Queue(Job job, JobBuffer[] buffers, Func<Place[], byte[]> work)
    {
        DmaFence[] before = [.. buffers.SelectMany(static b => b.Buffer.Buffer.Reservation.Unsignaled(b.Writes ? FenceUsage.Bookkeep : FenceUsage.Write)).Distinct()];
        Place[] places = [.. buffers.Select(static b => b.Buffer.Place)];
        foreach (JobBuffer each in buffers)
            each.Buffer.Buffer.Get();
        Engine engine = Array.Exists(buffers, static b => b.Writes) ? _writer : _readers[Interlocked.Increment(ref _next) & 1];
        job.Fence = engine.NewFence();
        engine.Queue(new EngineJob(job.Fence, before, Run, Done));

        void Run()
        {
            if (_fault.Is("waits-for-later-jobs"))
                WaitForAll(job, buffers);
            if (_fault.Is("locks-before-it-works"))
                buffers[0].Buffer.Buffer.Reservation.Lock().Dispose();
            if (buffers[0].Buffer.Slow != 0)
                Thread.Sleep(buffers[0].Buffer.Slow);
            job.Finish(work(places));
            if (_fault.Is("cleans-up-before-it-signals"))
                buffers[^1].Buffer.Buffer.Reservation.Lock().Dispose();
        }

        void Done()
        {
            if (_fault.Is("keeps-a-reference"))
                return;
            foreach (JobBuffer each in buffers)
                each.Buffer.Buffer.Put();
        }
    }

    // Gives up in the end, once and for all.
    private void WaitForAll(Job job, JobBuffer[] buffers)
    {
        using var limit = new CancellationTokenSource(Fault.Patience);
        foreach (DmaFence fence in buffers.SelectMany(static b => b.Buffer.Buffer.Reservation.Unsignaled(FenceUsage.Bookkeep)).Where(f => f != job.Fence))
        {
            if (!_hasGivenUp)
                _hasGivenUp = fence.Wait(limit.Token) != Errno.Ok;
        }
    }
}

/// <summary>A job.</summary>
internal sealed class Job : IComputeJob
{
    private byte[] _result = [];

    public DmaFence Fence { get; internal set; } = null!;

    public string? Failure => null;

    public ReadOnlyMemory<byte> Result => Fence.IsSignaled ? _result : default;

    internal void Finish(byte[] result) => _result = result;
}
