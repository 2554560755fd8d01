using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyBlockDevice;

/// <summary>Cuts bios into parts of 8 KiB, which it hands to the member as it has room; a bio ends with its last part.</summary>
internal sealed class FaultyStackQueue : BlockQueue, IBioOwner
{
    private const int PartSize = 8192;
    private readonly FaultyStack _device;
    private readonly BioPool _bios;
    private readonly BioPool _parts;
    private readonly BlockQueue _member;
    private readonly Queue<BioHandle> _waiting = new();
    private readonly (int Pending, Errno Status)[] _parents;
    private readonly int _owner;
    private int _ended;

    internal FaultyStackQueue(FaultyStack device, IoContext context, BioPool bios, int depth)
    {
        _device = device;
        _bios = bios;
        int perBio = (device.Limits.MaxBytes / PartSize) + 1;
        _parts = new BioPool(depth * perBio);
        _owner = _parts.AddOwner(this);
        _parents = new (int, Errno)[bios.Capacity];
        _member = device.Member.OpenQueue(context, _parts, depth * 2);
    }

    public override int Submit(ReadOnlySpan<BioHandle> bios)
    {
        int taken = 0;
        foreach (BioHandle bio in bios)
        {
            int parts = Math.Max(1, (int)((_bios[bio].Size + PartSize - 1) / PartSize));
            if (_parts.Free < parts)
                break;
            Cut(bio, parts);
            taken++;
        }

        Push();
        return taken;
    }

    public override void Commit() => _member.Commit();

    public override int Poll(int max)
    {
        _ended = 0;
        _member.Poll(max);
        _parts.Dispatch();
        Push();
        _member.Commit();
        return _ended;
    }

    public void BioEnded(BioHandle bio)
    {
        int parent = (int)_parts[bio].Cookie;
        ref (int Pending, Errno Status) state = ref _parents[parent];
        if (state.Status == Errno.Ok)
            state.Status = _parts[bio].Status;
        _parts.Release(bio);
        if (--state.Pending != 0)
            return;
        _bios.End(new BioHandle(parent), state.Status);
        _ended++;
    }

    public override void Dispose()
    {
        _member.Dispose();
        _parts.Dispose();
    }

    private void Cut(BioHandle bio, int parts)
    {
        ref readonly Bio whole = ref _bios[bio];
        _parents[bio.Index] = (parts, Errno.Ok);
        if (whole.Operation == BioOperation.Flush)
        {
            if (_device.Fault.Is("keeps-flushes"))
            {
                _bios.End(bio, Errno.Ok);
                return;
            }

            _parts.TryAllocateFlush(out BioHandle flush, _owner, bio.Index);
            _waiting.Enqueue(flush);
            return;
        }

        DmaMap? map = (_bios.MapOf(bio) as CompositeMap)?[0] ?? _bios.MapOf(bio);
        for (int i = 0; i < parts; i++)
        {
            long skip = (long)i * PartSize;
            long size = Math.Min(PartSize, whole.Size - skip);
            _parts.TryTakePart(_bios, bio, map, _device.Fault.Is("forgets-to-advance") ? 0 : skip, size, whole.Sector + (skip >> 9), _owner, bio.Index, out BioHandle part);
            if (_device.Fault.Is("turns-writes-of-parts") && i == 1)
                _parts[part].Operation = BioOperation.Read;
            _waiting.Enqueue(part);
        }
    }

    private void Push()
    {
        while (_waiting.TryPeek(out BioHandle part) && (_member.Submit(new ReadOnlySpan<BioHandle>(in part)) == 1 || _device.Fault.Is("loses-parts-without-room")))
            _waiting.Dequeue();
    }
}
