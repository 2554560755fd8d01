using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using DmaBufIo.Block;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;

namespace DmaBufIo.Fixtures.FaultyImporter;

/// <summary>A queue of one context. The request path: nothing allocated, no lock, no interlocked instruction.</summary>
internal sealed class CardQueue(Disk disk, CardBinding binding, IoContext context, BioPool bios, int depth) : BlockQueue
{
    private readonly Fault _fault = disk.Fault;
    private readonly bool _isCoherent = disk.Device.AddressSpace.IsCoherent;
    private readonly Lock _lock = new();
    private readonly Dictionary<DmaBuf, CardMap> _known = [];
    private readonly ConcurrentDictionary<int, int> _seen = new();
    private readonly int _opener = Environment.CurrentManagedThreadId;
    private object? _last;
    private long _taken;
    private long _ended;
    private int _lost;
    private int _tags = 1024;
    private int _count;

    /// <summary>Nothing is taken and nothing polled: during a reset. Changed by a visitor of the context only.</summary>
    internal bool IsFrozen { get; set; }

    internal IoContext Context => context;

    internal CommandQueue Commands { get; } = new(depth);

    public override int Room => IsFrozen ? 0 : (int)Math.Min(_ended + depth - _taken - _lost, _ended + _tags - _taken);

    public override int Submit(ReadOnlySpan<BioHandle> handles)
    {
        for (int i = 0; i < handles.Length; i++)
        {
            BioHandle handle = handles[i];
            if (disk.IsRemoved)
            {
                bios.End(handle, Errno.ENODEV);
                continue;
            }

            if (Room <= 0)
            {
                if (_fault.Is("drops what does not fit") && !IsFrozen)
                    continue;
                if (_fault.Is("ends what it does not take") && !IsFrozen)
                    bios.End(handle, Errno.EBUSY);
                if (_fault.Is("fails what does not fit") && !IsFrozen)
                {
                    bios.End(handle, Errno.EBUSY);
                    continue;
                }

                return i;
            }

            Take(handle);
        }

        return handles.Length;
    }

    public override void Commit()
    {
        if (IsFrozen)
            return;
        Volatile.Write(ref Commands.Rung, _taken);
    }

    public override int Poll(int max)
    {
        if (IsFrozen)
            return 0;
        if (_fault.Is("polls for its opener only") && Environment.CurrentManagedThreadId != _opener)
            return 0;
        if (_fault.Is("polls for an active owner only") && !context.IsActive)
            return 0;
        long done = _fault.Is("ends requests when they are rung") ? Volatile.Read(ref Commands.Rung)
            : Volatile.Read(ref Commands.Done);
        int count = 0;
        for (; count < max && _ended < done; count++)
            End(Commands[_ended].Status);
        return count;
    }

    public override void Dispose() => binding.Close(this);

    /// <summary>Ends every command, once: what was done as it was done. The engine stands still; called from a visit.</summary>
    internal void Cancel(Errno status, bool doneOnly = false)
    {
        while (_ended < _taken && !(doneOnly && _ended >= Commands.Done))
            End(_ended < Commands.Done ? Commands[_ended].Status : status);
        Forget();
    }

    /// <summary>What was taken is not the queue's any more.</summary>
    internal void Forget() => Commands.Done = Commands.Rung = _ended = _taken;

    private void Take(BioHandle handle)
    {
        if (_fault.Is("takes a lock"))
        {
            lock (_lock)
                _last = null;
        }

        if (_fault.Is("takes a hidden lock"))
            _seen.AddOrUpdate(0, 1, static (_, count) => count + 1);
        if (_fault.Is("takes the lock of a method"))
            CountAlone();
        if (_fault.Is("allocates"))
            _last = new Command { Handle = handle };
        ref Command command = ref Commands[_taken];
        command.Handle = handle;
        command.Bio = bios[handle];
        command.Map = null;
        command.Status = Errno.Ok;
        switch (bios.BackingOf(handle))
        {
            case CardMap map:
                command.Map = Prepare(map, command.Bio);
                break;
            case MemoryRegion region:
                command.Map = new PageMemory(disk.Device.AddressSpace, region, command.Bio);
                break;
        }

        _taken++;
    }

    [MethodImpl(MethodImplOptions.Synchronized)]
    private void CountAlone() => _count++;

    private CardMap Prepare(CardMap map, in Bio bio)
    {
        if (_fault.Is("spins for the lock"))
        {
            ReservationGuard guard;
            while (!map.Buffer.Reservation.TryLockAtOnce(out guard))
                Thread.Yield();
            guard.Dispose();
        }

        if (_fault.Is("remembers maps by their buffer"))
        {
            if (_known.TryGetValue(map.Buffer, out CardMap? known))
                map = known;
            else
                _known.Add(map.Buffer, map);
        }

        if (_isCoherent)
            return map;
        if (bio.Operation == BioOperation.Write && !_fault.Is("does not sync for the device"))
            map.SyncForDevice(bio.Offset, bio.Size);
        if (bio.Operation == BioOperation.Read && _fault.Is("syncs for the CPU before the data has come"))
            map.SyncForCpu(bio.Offset, bio.Size);
        return map;
    }

    private void End(Errno status)
    {
        ref Command command = ref Commands[_ended++];
        if (command.Map is PageMemory pages)
            pages.Unmap();
        bool syncs = !_isCoherent && command.Bio.Operation == BioOperation.Read && !_fault.Is("does not sync for the CPU") && !_fault.Is("syncs for the CPU before the data has come");
        if (syncs && command.Map is CardMap map)
            map.SyncForCpu(command.Bio.Offset, command.Bio.Size);
        if (status == Errno.EIO && _fault.Is("keeps the places of failed requests"))
            _lost++;
        if (status == Errno.EIO && _fault.Is("keeps the tags of failed requests"))
            _tags--;
        bios.End(command.Handle, status);
        if (_fault.Is("ends every bio twice") || (status == Errno.EIO && _fault.Is("ends a failed bio twice")))
            bios.End(command.Handle, status);
    }
}
