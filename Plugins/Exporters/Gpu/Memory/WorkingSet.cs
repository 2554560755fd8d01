using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.Exporters.Gpu.Memory;

/// <summary>Buffers that their user wants in the GPU's memory together, as a process with user-mode queues does: whatever is evicted, a worker brings all of them back.</summary>
/// <remarks>The worker locks all in one acquire context, and starts again when it is wounded.</remarks>
internal sealed class WorkingSet
{
    private readonly GpuBuffer[] _buffers;
    private readonly Gpu _gpu;
    private readonly Restore _restore;
    private volatile bool _ended;

    internal WorkingSet(Gpu gpu, IReadOnlyList<GpuBuffer> buffers)
    {
        _gpu = gpu;
        _buffers = [.. buffers];
        _restore = new Restore(this);
        foreach (GpuBuffer buffer in _buffers)
            buffer.Set = this;
    }

    /// <summary>One of the buffers was evicted. Does not sleep; called with its lock held.</summary>
    internal void Evicted()
    {
        if (!_ended)
            _gpu.Workers.Queue(_restore);
    }

    /// <summary>Nothing is restored any more, and nobody is at it.</summary>
    internal void End()
    {
        _ended = true;
        _gpu.Workers.Flush();
        foreach (GpuBuffer buffer in _buffers)
            buffer.Set = null;
    }

    private void RestoreAll()
    {
        var context = new AcquireContext();
        while (!_ended)
        {
            Errno status = RestoreFrom(0, context);
            if (status != Errno.EDEADLK)
                return; // all are back, or there is no room: the next eviction brings the next attempt
        }
    }

    private Errno RestoreFrom(int index, AcquireContext context)
    {
        if (index == _buffers.Length)
            return Errno.Ok;
        GpuBuffer buffer = _buffers[index];
        Errno status = buffer.Buffer.Reservation.TryLock(out ReservationGuard guard, context);
        if (status != Errno.Ok)
            return status;
        using (guard)
        {
            status = _gpu.Memory.TryMoveToVram(buffer, context, guard.Held, out _);
            return status == Errno.Ok ? RestoreFrom(index + 1, context) : status;
        }
    }

    private sealed class Restore(WorkingSet set) : WorkItem
    {
        protected override void Run()
        {
            try
            {
                set.RestoreAll();
            }
            catch (DmaBufIoException e)
            {
                // Memory for the process is short; the buffers work where they are.
                DmaBufIoDiagnostics.Report(new DriverFault($"restoring of buffers on {set._gpu.Name}", e));
            }
        }
    }
}
