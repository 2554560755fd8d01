using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Queues;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Importers.NvmePci.Controller;

/// <content>Reset, failure and removal (N8, T11).</content>
/// <remarks>
/// The order is the same for all three. Queues are frozen, so that nobody writes to a doorbell of a queue that does not exist. The
/// controller is stopped:
/// only then is it certain that no address of a request is used any more. Requests are ended, exactly once. Contexts are reaped, so that
/// their map references are dropped also where the owner is idle (T14). Maps are killed. Only removal waits for them, at the very end.
/// </remarks>
internal sealed partial class NvmeController
{
    private readonly Recovery _recovery;
    private int _resets;
    private int _recoveryFor = -1;
    private bool _givenUp;
    private bool _disposed;

    /// <summary>Resets that were finished.</summary>
    internal int Resets => Volatile.Read(ref _resets);

    /// <summary>Why the controller was given up, or null.</summary>
    internal DmaBufIoException? Failure { get; private set; }

    /// <summary>A queue has found that the controller does not do its work. Callable on the request path: a worker sees to it.</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    internal void RequestRecovery()
    {
        Volatile.Write(ref _recoveryFor, Resets);
        _workers.Queue(_recovery);
    }

    /// <summary>Resets the controller; see <see cref="NvmeBinding.Reset"/>.</summary>
    internal void Reset()
    {
        LockControl();
        try
        {
            Device.ThrowIfRemoved(NvmePciPlugin.PluginName);
            ResetLocked();
        }
        finally
        {
            _control.Unlock();
        }
    }

    /// <summary>Removes the device; see <see cref="NvmeBinding.Dispose"/>.</summary>
    public void Dispose()
    {
        LockControl();
        try
        {
            if (_disposed)
                return;
            _disposed = true;
            if (!_givenUp)
                GiveUp(shutdown: true);
        }
        finally
        {
            _control.Unlock();
        }

        // Without the lock: rings may be closing their queues. No new map appears, and what is waited for needs neither the function nor
        // this object.
        Device.Remove();
        LockControl();
        try
        {
            foreach (NvmeQueue queue in OpenQueues())
                queue.FreeMemory();
            Array.Clear(_queues);
            _admin.Dispose();
        }
        finally
        {
            _control.Unlock();
        }

        _workers.Dispose();
        Function.Dispose();
    }

    private void ResetLocked()
    {
        try
        {
            NvmeQueue[] queues = OpenQueues();
            Stop(queues);
            EndRequests(queues, Errno.ECANCELED, isLast: false);
            EnableController();
            int granted = NegotiateQueues();
            foreach (NvmeQueue queue in queues)
            {
                if (queue.Id > granted)
                {
                    string problem = $"after the reset the controller grants {granted} queues, queue {queue.Id} is in use";
                    throw NvmeError.Make(Errno.EIO, Name, problem, "Remove the device and bind the driver anew");
                }

                queue.Context.Visit(queue.Rewind);
                CreateQueues(queue);
                queue.Context.Visit(queue.Thaw);
                queue.Wake?.Invoke(); // what was refused meanwhile has room now
            }

            Volatile.Write(ref _resets, _resets + 1);
        }
        catch (DmaBufIoException e)
        {
            Failure = e;
            GiveUp(shutdown: false);
            throw;
        }
    }

    /// <summary>The device is gone for its users: by removal, by itself, or because it did not come back from a reset.</summary>
    private void GiveUp(bool shutdown)
    {
        _givenUp = true;
        Device.MarkRemoved();
        NvmeQueue[] queues = OpenQueues();
        foreach (NvmeQueue queue in queues)
            queue.Context.Visit(queue.Freeze);
        if (shutdown && !Registers.IsGone)
            ShutDown(queues);
        StopDma();
        EndRequests(queues, Errno.ENODEV, isLast: true);
    }

    private void Stop(NvmeQueue[] queues)
    {
        foreach (NvmeQueue queue in queues)
            queue.Context.Visit(queue.Freeze);
        Registers.Disable();
        if (Registers.IsGone)
            throw NvmeError.Gone(Name);
    }

    // An orderly end: what the volatile write cache holds is saved. The queues are deleted first, as the specification asks.
    private void ShutDown(NvmeQueue[] queues)
    {
        try
        {
            foreach (NvmeQueue queue in queues)
            {
                if (!TryDeleteQueues(queue))
                    break;
            }

            Registers.Shutdown(TimeSpan.FromMilliseconds(TimeoutMilliseconds));
        }
        catch (DmaBufIoException e)
        {
            // It goes all the same; the reason stays to be asked for.
            Failure ??= e;
        }
    }

    /// <summary>Ends all DMA. What does not obey its registers is reset; what is gone does none.</summary>
    private void StopDma()
    {
        try
        {
            Registers.Disable();
        }
        catch (DmaBufIoException e)
        {
            Failure ??= e;
            Function.Reset();
        }
    }

    private void EndRequests(NvmeQueue[] queues, Errno status, bool isLast)
    {
        foreach (NvmeQueue queue in queues)
        {
            queue.Context.Visit(() =>
            {
                queue.Cancel(status);
                if (isLast)
                    queue.MarkDead();
            });
        }

        Device.KillMaps();

        // Requests that were under way in a batch when the maps were killed have ended now, or were sent back. Their references are
        // dropped here, in
        // the place of owners that may be idle. Whoever uses a map of this controller, be it through a stacked device, has a queue of it.
        foreach (IoContext context in queues.Select(static q => q.Context).Distinct())
            context.ReapAsVisitor();
    }

    private NvmeQueue[] OpenQueues() => [.. _queues.OfType<NvmeQueue>()];

    private void Recover()
    {
        LockControl();
        try
        {
            // Someone else may have reset or removed it meanwhile.
            if (Device.IsRemoved || Volatile.Read(ref _recoveryFor) != Resets)
                return;
            ResetLocked();
        }
        catch (DmaBufIoException e)
        {
            // Nobody to tell here: its users see ENODEV, and Failure tells why.
            Failure ??= e;
        }
        finally
        {
            _control.Unlock();
        }
    }

    private sealed class Recovery(NvmeController controller) : WorkItem
    {
        protected override void Run() => controller.Recover();
    }
}
