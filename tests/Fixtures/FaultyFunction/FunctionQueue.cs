using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Pci;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyFunction;

/// <summary>One bio after the other, each in as many commands as its memory has pieces.</summary>
internal sealed class FunctionQueue(FunctionDisk disk, PciFunction function, IoContext context, BioPool bios, int depth) : BlockQueue
{
    private readonly Queue<BioHandle> _waiting = new();
    private readonly Queue<(ulong Address, int Length)> _pieces = new();
    private BioHandle? _current;
    private DeviceRange? _mapped;
    private uint _place;
    private bool _frozen;
    private Action? _handler;

    internal IoContext Context => context;

    public override int Room => _frozen ? 0 : Math.Max(0, depth - _waiting.Count - (_current is null ? 0 : 1));

    public override int Submit(ReadOnlySpan<BioHandle> handles)
    {
        if (disk.IsRemoved)
        {
            foreach (BioHandle bio in handles)
                bios.End(bio, Errno.ENODEV);
            return handles.Length;
        }

        int count = Math.Min(handles.Length, Room);
        foreach (BioHandle bio in handles[..count])
            _waiting.Enqueue(bio);
        return count;
    }

    public override void Commit() => Advance(0);

    public override int Poll(int max) => Advance(max);

    public override bool TryEnableInterrupts(Action handler)
    {
        _handler = handler;
        return true;
    }

    public override void Dispose() => disk.Forget(this);

    internal void Freeze() => _frozen = true;

    internal void Thaw() => _frozen = false;

    internal void Wake() => _handler?.Invoke();

    /// <summary>Ends everything; the function does no DMA any more.</summary>
    internal void Cancel(Errno status)
    {
        if (_current is { } bio)
            Finish(bio, status);
        _pieces.Clear();
        while (_waiting.TryDequeue(out BioHandle next))
        {
            if (disk.Fault.Is("reset-forgets"))
                continue;
            bios.End(next, status);
            if (disk.Fault.Is("reset-ends-twice"))
                bios.End(next, status);
        }
    }

    private int Advance(int max)
    {
        int ended = 0;
        while (!_frozen && !disk.IsRemoved)
        {
            if (_current is { } bio)
            {
                uint status = function.Read32(0, SmallFunction.Status);
                if (max == ended || status is not (SmallFunction.Done or SmallFunction.Failed))
                    return ended;
                if (status == SmallFunction.Done && _pieces.Count > 0)
                {
                    Go(bio);
                    continue;
                }

                Finish(bio, status == SmallFunction.Done ? Errno.Ok : Errno.EIO);
                ended++;
            }

            if (_waiting.Count == 0 || !disk.TryTake(this))
                return ended;
            BioHandle next = _waiting.Dequeue();
            _current = next;
            Errno refused = Begin(next);
            if (refused == Errno.Ok)
            {
                Go(next);
                continue;
            }

            Finish(next, refused);
            ended++;
        }

        return ended;
    }

    private void Finish(BioHandle bio, Errno status)
    {
        _current = null;
        _pieces.Clear();
        if (_mapped is { } range)
            range.Space.Unmap(range);
        _mapped = null;
        bios.End(bio, status);
        disk.Release(this);
    }

    private Errno Begin(BioHandle handle)
    {
        ref readonly Bio bio = ref bios[handle];
        _pieces.Clear();
        _place = (uint)(bio.Sector << 9);
        if (bio.Operation == BioOperation.Flush)
            return Errno.Ok;
        if (bios.MapOf(handle) is RangeMap map)
        {
            long start = 0;
            foreach (DeviceRange range in map.Table.Ranges)
            {
                long from = Math.Max(bio.Offset, start);
                long to = Math.Min(bio.Offset + bio.Size, start + range.Length);
                if (from < to)
                    _pieces.Enqueue((range.Address + (ulong)(from - start), (int)(to - from)));
                start += range.Length;
            }

            return Errno.Ok;
        }

        try
        {
            long start = bio.Offset & -4096;
            long end = (bio.Offset + bio.Size + 4095) & -4096;
            DmaDirection direction = bio.Operation == BioOperation.Write ? DmaDirection.ToDevice : DmaDirection.FromDevice;
            MemoryRegion region = bios.RegionOf(handle)!;
            _mapped = function.AddressSpace.Map(new MemoryRange(region, start, end - start), direction, region.Name);
            _pieces.Enqueue((_mapped.Address + (ulong)(bio.Offset - start), (int)bio.Size));
            return Errno.Ok;
        }
        catch (DmaBufIoException e)
        {
            return e.Errno;
        }
    }

    private void Go(BioHandle handle)
    {
        BioOperation operation = bios[handle].Operation;
        if (_pieces.TryDequeue(out (ulong Address, int Length) piece))
        {
            function.Write32(0, SmallFunction.AddressLow, (uint)piece.Address);
            function.Write32(0, SmallFunction.AddressHigh, (uint)(piece.Address >> 32));
            function.Write32(0, SmallFunction.Length, (uint)piece.Length);
            function.Write32(0, SmallFunction.Place, _place);
            _place += (uint)piece.Length;
        }

        function.Write32(0, SmallFunction.Go, operation switch { BioOperation.Read => 1u, BioOperation.Write => 2u, _ => 3u });
    }
}
