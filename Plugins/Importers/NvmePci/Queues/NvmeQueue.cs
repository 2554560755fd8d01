using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Controller;
using DmaBufIo.Importers.NvmePci.Native;
using DmaBufIo.Importers.NvmePci.Protocol;
using DmaBufIo.Io;
using DmaBufIo.Pci;

namespace DmaBufIo.Importers.NvmePci.Queues;

/// <summary>One I/O queue pair for one context, polled, on request woken by an interrupt. The request path: nothing allocated, no lock, no interlocked instruction.</summary>
/// <remarks>
/// Everything here is used by the context's current owner. Reset and removal act as the owner by visiting the context
/// (<see cref="IoContext.Visit"/>), so the state needs no synchronisation of its own: what a visitor changed, the owner's next batch sees.
/// This file holds submission and completion; requests are built in NvmeQueue.Requests.cs, reset and removal are in NvmeQueue.Lifecycle.cs.
/// </remarks>
internal sealed partial class NvmeQueue : BlockQueue
{
    private readonly NvmeController _controller;
    private readonly NvmeNamespace _namespace;
    private readonly PciFunction _function;
    private readonly IoContext _context;
    private readonly BioPool _bios;
    private readonly DmaDevice _device;
    private readonly QueueLayout _layout;
    private readonly int _entries;
    private readonly DeviceRegion _memory;
    private readonly DeviceMemory<NvmeCommand> _submission;
    private readonly DeviceMemory<NvmeCompletion> _completion;
    private readonly DeviceMemory<ulong> _lists;
    private readonly TagSet _tags;
    private readonly DeviceRange?[] _ownRanges;
    private readonly long _tailDoorbell;
    private readonly long _headDoorbell;
    private QueueState _state;
    private int _tail;
    private int _rungTail;
    private int _head;
    private uint _phase;
    private int _emptyPolls;
    private long _checkedAt;

    internal NvmeQueue(NvmeController controller, NvmeNamespace device, int id, IoContext context, BioPool bios, int depth)
    {
        _controller = controller;
        _namespace = device;
        _function = controller.Function;
        _device = controller.Device;
        _context = context;
        _bios = bios;
        Id = id;
        _layout = new QueueLayout(depth, controller.PageShift, device.Limits.MaxBytes);
        _entries = _layout.Entries;
        _tags = new TagSet(depth);
        _ownRanges = new DeviceRange?[depth];
        _tailDoorbell = controller.Registers.TailDoorbell(id);
        _headDoorbell = controller.Registers.HeadDoorbell(id);
        _memory = new DeviceRegion(_function.AddressSpace, $"{controller.Name} queue {id}", _layout.Length, 1 << controller.PageShift);
        _submission = _memory.View<NvmeCommand>(0, Entries * 64);
        _completion = _memory.View<NvmeCompletion>(_layout.CompletionOffset, Entries * 16);
        _lists = _memory.View<ulong>(_layout.ListOffset, depth * _layout.ListSize);
        InitializeRequests();
        Rewind();
    }

    /// <summary>What may be done with the queue. Changed by a visitor of the context only.</summary>
    private enum QueueState
    {
        /// <summary>The controller is being reset, or does not know the queue yet: nothing is taken and nothing polled.</summary>
        Frozen,

        /// <summary>The controller works the queue.</summary>
        Live,

        /// <summary>The device is gone: bios end with <c>ENODEV</c>. The queue's memory may be freed.</summary>
        Dead,
    }

    /// <summary>The queue identifier of both queues of the pair.</summary>
    internal int Id { get; }

    /// <summary>The interrupt vector of the completion queue; 0, the admin queue's, stands for none. Set before the first bio.</summary>
    internal int Vector { get; set; }

    /// <summary>Wakes an owner that sleeps; null where it polls. Set with the vector.</summary>
    internal Action? Wake { get; set; }

    /// <summary>The context that owns the queue.</summary>
    internal IoContext Context => _context;

    /// <summary>Entries of each of the two queues.</summary>
    internal int Entries => _entries;

    /// <summary>Device address of the submission entries.</summary>
    internal ulong SubmissionAddress => _memory.Address;

    /// <summary>Device address of the completion entries.</summary>
    internal ulong CompletionAddress => _memory.Address + (ulong)_layout.CompletionOffset;

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public override int Submit(ReadOnlySpan<BioHandle> bios)
    {
        int taken = SubmitSmall(bios);
        while (taken < bios.Length && TrySubmitAny(bios[taken]))
        {
            taken++;
            taken += SubmitSmall(bios[taken..]);
        }

        return taken;
    }

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public override int Room => _state == QueueState.Live ? _tags.Free : 0;

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public override void Commit()
    {
        if (_tail == _rungTail || _state != QueueState.Live)
            return;
        _rungTail = _tail;

        // The register write releases the entries and lists written before it: the function's contract.
        _function.Write32(0, _tailDoorbell, (uint)_tail);
    }

    /// <inheritdoc/>
    [Diagnostics.HotPath]
    public override int Poll(int max)
    {
        if (_state != QueueState.Live)
            return 0;
        _function.Advance();
        int consumed = 0;
        int strays = 0;
        int head = _head;
        uint phase = _phase;
        int entries = _entries;
        DeviceMemory<NvmeCompletion> completions = _completion;
        Tracker[] trackers = _tags.Trackers;
        int[] free = _tags.FreeTags;
        int freeCount = _tags.Free;
        BioPool pool = _bios;
        bool isCoherent = _isCoherent;
        while (consumed < max)
        {
            // Acquire: the device writes the phase last, so the rest of the entry and the data are read after it. The entry is the device's
            // again only when the head doorbell below has been rung.
            uint last = Volatile.Read(ref completions[head].Dword3);
            if (((last >> 16) & 1) != phase)
                break;
            if (++head == entries)
            {
                head = 0;
                phase ^= 1;
            }

            // The same as Complete, with everything at hand.
            consumed++;
            int tag = (int)(last & 0xFFFF);
            Tracker tracker = tag < trackers.Length ? trackers[tag] : Tracker.Free;
            if (!tracker.IsInFlight)
            {
                strays++;
                _controller.RequestRecovery();
                continue;
            }

            var handle = new BioHandle(tracker.Bio);
            if (tracker.HasOwnRange | !isCoherent)
                GiveBack(handle, tag, tracker.HasOwnRange);
            trackers[tag] = Tracker.Free;
            free[freeCount++] = tag;
            int code = NvmeStatus.CodeOf(last);
            pool.End(handle, code == 0 ? Errno.Ok : NvmeStatus.ToErrno(code));
        }

        _head = head;
        _phase = phase;
        _tags.Returned(consumed - strays);
        if (consumed != 0)
            _function.Write32(0, _headDoorbell, (uint)_head);
        else if (_tags.InFlight != 0)
            CountEmptyPoll();
        return consumed;
    }

    private void MoveHead()
    {
        if (++_head == Entries)
        {
            _head = 0;
            _phase ^= 1;
        }
    }

    private void Complete(uint dword3)
    {
        int tag = (int)(dword3 & 0xFFFF);
        if (!_tags.IsInFlight(tag))
        {
            // No request may be ended on the word of a device that answers what it was not asked.
            _controller.RequestRecovery();
            return;
        }

        int code = NvmeStatus.CodeOf(dword3);
        Finish(tag, code == 0 ? Errno.Ok : NvmeStatus.ToErrno(code));
    }
}
