using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Engines;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Sync;

namespace DmaBufIo.Exporters.Gpu.Jobs;

/// <summary>One buffer of a job.</summary>
/// <param name="Buffer">The buffer.</param>
/// <param name="Writes">True when the job writes it.</param>
internal readonly record struct JobBuffer(GpuBuffer Buffer, bool Writes);

/// <summary>Takes jobs: brings their buffers to where they are worked on, orders them against I/O, and hands them to the compute engine.</summary>
/// <remarks>
/// The acquire step (T12). With the locks of all buffers held in one acquire context: buffers that were evicted are restored, evicting others; the maps of all are killed in one
/// invalidation and requests in flight end (T17); the job is queued behind every fence of its buffers, and its own fence published: WRITE for those it writes, READ for the others. So
/// requests before the job have ended, and requests after it need a new map, for which its fence is waited for.
/// </remarks>
internal sealed class JobQueue(MemoryManager memory, Engine compute)
{
    private readonly ReadCache _cache = new();

    /// <summary>Takes a job. Takes reservation locks, may sleep.</summary>
    /// <param name="what">For messages.</param>
    /// <param name="buffers">Its buffers, each once.</param>
    /// <param name="work">What the engine does; it gets at the contents through the cache. Its views are the buffers in their order.</param>
    /// <exception cref="DmaBufIoException">The buffers do not fit into the GPU's memory together (<c>ENOMEM</c>).</exception>
    internal GpuJob Submit(string what, ReadOnlySpan<JobBuffer> buffers, Func<ReadCache, JobView[], byte[]> work)
    {
        var job = new GpuJob();
        JobBuffer[] all = [.. buffers];

        // Its age survives backing off: in the end it is the oldest.
        var context = new AcquireContext();
        while (true)
        {
            using var batch = new InvalidationBatch();
            Errno status = Acquire(job, all, 0, context, batch, work);
            if (status == Errno.Ok)
                return job;
            if (status != Errno.EDEADLK)
            {
                throw new DmaBufIoException(
                    status, GpuPlugin.PluginName, $"{what} of {string.Join(", ", all.Select(static b => b.Buffer.Buffer.Name))}", "the buffers do not fit into the GPU's memory together with what is pinned there", "Use smaller buffers, or give the GPU more memory (gpu:vram=SIZE)", rule: "T12");
            }
        }
    }

    // One level per buffer: a lock is held by its level, and given back by it.
    private Errno Acquire(GpuJob job, JobBuffer[] buffers, int index, AcquireContext context, InvalidationBatch batch, Func<ReadCache, JobView[], byte[]> work)
    {
        if (index == buffers.Length)
        {
            batch.Complete();
            Queue(job, buffers, work);
            return Errno.Ok;
        }

        GpuBuffer buffer = buffers[index].Buffer;
        ReservationObject reservation = buffer.Buffer.Reservation;
        Errno status = reservation.TryLock(out ReservationGuard guard, context);
        if (status != Errno.Ok)
            return status;
        using (guard)
        {
            if (buffer.PrefersVram)
                status = memory.TryMoveToVram(buffer, context, guard.Held, out _);
            if (status is not (Errno.Ok or Errno.EBUSY))
                return status;
            memory.Used(buffer);
            buffer.Buffer.CollectInvalidation(batch, guard.Held);
            reservation.Reserve(guard.Held, 1);
            status = Acquire(job, buffers, index + 1, context, batch, work);
            if (status == Errno.Ok)
                reservation.Add(guard.Held, job.Fence, buffers[index].Writes ? FenceUsage.Write : FenceUsage.Read);
            return status;
        }
    }

    private void Queue(GpuJob job, JobBuffer[] buffers, Func<ReadCache, JobView[], byte[]> work)
    {
        // Moves, jobs before it, and in the fenced design the requests that an invalidation has left.
        DmaFence[] before = [.. buffers.SelectMany(static b => b.Buffer.Buffer.Reservation.Unsignaled(FenceUsage.Bookkeep)).Distinct()];
        JobView[] views = [.. buffers.Select(static b => new JobView(b.Buffer, b.Buffer.Place))];
        foreach (JobBuffer each in buffers)
            each.Buffer.Buffer.Get();
        job.Fence = compute.NewFence();
        compute.Queue(new EngineJob(job.Fence, before, Run) { Afterwards = Done, Failed = job.Fail });

        void Run()
        {
            // What devices have written since is not in the cache.
            foreach (JobBuffer each in buffers)
                _cache.Drop(each.Buffer);
            job.Finish(work(_cache, views));
        }

        void Done()
        {
            foreach (JobBuffer each in buffers)
                each.Buffer.Buffer.Put();
        }
    }
}
