using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Protocol;
using DmaBufIo.Importers.NvmePci.Queues;
using DmaBufIo.Io;

namespace DmaBufIo.Importers.NvmePci.Controller;

/// <content>I/O queue pairs: made on demand, completion queue first; deleted submission queue first.</content>
internal sealed partial class NvmeController
{
    /// <summary>Makes a queue pair for a context; see <see cref="BlockDevice.OpenQueue"/>.</summary>
    internal NvmeQueue OpenQueue(NvmeNamespace device, IoContext context, BioPool bios, int depth)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(depth);
        LockControl();
        try
        {
            Device.ThrowIfRemoved(NvmePciPlugin.PluginName);
            int id = Array.IndexOf(_queues, null, 1);
            if (id < 0)
            {
                throw new DmaBufIoException(
                    Errno.EBUSY,
                    NvmePciPlugin.PluginName,
                    device.Name,
                    $"all {_queues.Length - 1} queues that the controller grants are in use",
                    "Dispose a ring that uses the controller, or use fewer rings");
            }

            depth = Math.Min(Math.Min(depth, _options.QueueDepth), Registers.MaxQueueEntries - 1);
            var queue = new NvmeQueue(this, device, id, context, bios, depth);
            try
            {
                CreateQueues(queue);
            }
            catch
            {
                // The controller may know one half of the pair: the memory is freed only when it surely does not.
                ForgetQueues(queue);
                queue.FreeMemory();
                throw;
            }

            queue.Thaw();
            _queues[id] = queue;
            return queue;
        }
        finally
        {
            _control.Unlock();
        }
    }

    /// <summary>Gives a queue pair an interrupt; see <see cref="BlockQueue.TryEnableInterrupts"/>.</summary>
    internal bool TryEnableInterrupts(NvmeQueue queue, Action handler)
    {
        LockControl();
        try
        {
            Device.ThrowIfRemoved(NvmePciPlugin.PluginName);

            // A vector per queue, numbered like it; 0 is the admin queue's.
            if (queue.Id >= Function.InterruptVectors)
                return false;

            // Whether it interrupts is said when a completion queue is made: the pair is made anew. Nothing is in flight yet. The handler is there first.
            Function.SetInterruptHandler(queue.Id, handler);
            queue.Context.Visit(queue.Freeze);
            queue.Vector = queue.Id;
            queue.Wake = handler;
            if (!TryDeleteQueues(queue))
                throw NvmeError.Make(Errno.EIO, queue.Context.Name, $"the controller does not delete queue {queue.Id}, which is to be made anew with an interrupt", "Reset it");
            queue.Context.Visit(queue.Rewind);
            CreateQueues(queue);
            queue.Context.Visit(queue.Thaw);
            return true;
        }
        finally
        {
            _control.Unlock();
        }
    }

    /// <summary>Ends a queue pair; see <see cref="BlockQueue.Dispose"/>. Idempotent.</summary>
    internal void CloseQueue(NvmeQueue queue)
    {
        LockControl();
        try
        {
            if (!ReferenceEquals(_queues[queue.Id], queue))
                return;
            if (queue.InFlight != 0)
            {
                throw new InvalidOperationException(
                    $"Queue {queue.Id} of {Name} was disposed with {queue.InFlight} requests in flight; poll until they have ended.");
            }

            _queues[queue.Id] = null;

            // As a visitor: another thread may be reaping the queue in the owner's place.
            queue.Context.Visit(queue.MarkDead);
            if (!Device.IsRemoved)
                ForgetQueues(queue);
            queue.FreeMemory();
            if (queue.Vector != 0)
                Function.SetInterruptHandler(queue.Vector, null);
        }
        finally
        {
            _control.Unlock();
        }
    }

    private void CreateQueues(NvmeQueue queue)
    {
        const uint PhysicallyContiguous = 1;
        const uint InterruptsEnabled = 2;
        uint interrupt = queue.Vector == 0 ? 0 : InterruptsEnabled | ((uint)queue.Vector << 16);
        uint number = (uint)queue.Id;
        uint sizeAndNumber = number | ((uint)(queue.Entries - 1) << 16);
        var completion = new NvmeCommand
        {
            Dword0 = AdminOpcode.CreateCompletionQueue,
            Prp1 = queue.CompletionAddress,
            Dword10 = sizeAndNumber,
            Dword11 = PhysicallyContiguous | interrupt,
        };
        _ = _admin.Execute(completion, $"create I/O completion queue {number}");
        var submission = new NvmeCommand
        {
            Dword0 = AdminOpcode.CreateSubmissionQueue,
            Prp1 = queue.SubmissionAddress,
            Dword10 = sizeAndNumber,
            Dword11 = PhysicallyContiguous | (number << 16),
        };
        _ = _admin.Execute(submission, $"create I/O submission queue {number}");
    }

    /// <summary>Makes the controller forget a pair; when it does not obey, a reset makes it.</summary>
    private void ForgetQueues(NvmeQueue queue)
    {
        if (TryDeleteQueues(queue))
            return;
        try
        {
            ResetLocked();
        }
        catch (DmaBufIoException e)
        {
            // Given up, with all DMA ended: what the caller wanted is reached. Failure tells the reason.
            Failure ??= e;
        }
    }

    private bool TryDeleteQueues(NvmeQueue queue) =>
        TryDelete(AdminOpcode.DeleteSubmissionQueue, (uint)queue.Id) && TryDelete(AdminOpcode.DeleteCompletionQueue, (uint)queue.Id);

    // A queue that does not exist is as good as deleted.
    private bool TryDelete(byte opcode, uint number)
    {
        const int InvalidQueueIdentifier = 0x101;
        return _admin.TryExecute(new NvmeCommand { Dword0 = opcode, Dword10 = number }) is 0 or InvalidQueueIdentifier;
    }
}
