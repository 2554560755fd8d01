using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

/// <summary>
/// The simplest thing that knows what an IOMMU must do: lists of live and ended mappings and a copy of the memory. Each
/// step is done to both and compared.
/// </summary>
internal sealed class ReferenceModel : IDisposable
{
    private const int RegionPages = 24;
    private const int MaxMapping = 9;
    private const int AddressPages = 1024;
    private const int FlushThreshold = 6;

    private readonly IommuMode _mode;
    private readonly Bench _bench;
    private readonly MemoryRegion[] _regions;
    private readonly byte[][] _expected;
    private readonly List<DeviceRange> _live = [];
    private readonly List<DeviceRange> _ended = [];
    private readonly List<DeviceRange> _waiting = [];
    private long _flushesSeen;
    private long _unmapCalls;
    private byte _next;

    public ReferenceModel(IommuMode mode, bool thread)
    {
        _mode = mode;
        _bench = new Bench(new ModelIommuOptions
        {
            Mode = mode,
            InvalidationThread = thread,
            AddressBits = 22,
            IotlbEntries = 16,
            ReuseDelay = 5,
            LazyFlushThreshold = FlushThreshold,
            HistoryLength = 1 << 20,
        });
        _regions = [_bench.Region(RegionPages, "a"), _bench.Region(RegionPages, "b"), _bench.Region(RegionPages, "c")];
        _expected = [.. _regions.Select(r => new byte[r.Length])];
    }

    public void Step(int number)
    {
        var choice = new Random(number);
        switch (choice.Next(20))
        {
            case < 6:
                Map(choice);
                break;
            case < 10:
                Unmap(choice);
                break;
            case 10:
                _bench.Iommu.Flush();
                NoteFlushes();
                Assert.Empty(_waiting);
                break;
            default:
                Access(choice);
                break;
        }
    }

    public void Finish()
    {
        _unmapCalls += _live.Count == 0 ? 0 : 1;
        _bench.Space.Unmap(_live.ToArray());
        Assert.Equal(0, _bench.Iommu.LiveMappings);
        IommuCounters counters = _bench.Iommu.Counters;
        Assert.Equal(counters.Maps, counters.Unmaps);
        long invalidated = _mode == IommuMode.Strict ? counters.Unmaps : 0;
        Assert.Equal((invalidated, invalidated), (counters.Invalidations, counters.AcknowledgedInvalidations));
        if (_mode == IommuMode.Strict)
            Assert.Equal((_unmapCalls, 0), (counters.InvalidationWaits, counters.Flushes));
        CheckMemory();
    }

    public void Dispose() => _bench.Dispose();

    private static bool Covers(DeviceRange range, ulong address) =>
        address >= range.Address && address < range.Address + (ulong)range.Length;

    private void Map(Random choice)
    {
        int pages = choice.Next(1, MaxMapping + 1);
        MemoryRegion region = _regions[choice.Next(_regions.Length)];
        var direction = (DmaDirection)choice.Next(1, 4);
        DeviceRange range;
        try
        {
            range = _bench.Map(region, choice.Next(RegionPages - pages + 1), pages, direction, "generated", choice.Next());
        }
        catch (DmaBufIoException error) when (error.Errno == Errno.ENOMEM)
        {
            Assert.NotEqual(IommuMode.Passthrough, _mode);
            Assert.False(HasGap(pages), $"{pages} pages were refused although they fit");
            NoteFlushes();
            Assert.Empty(_waiting);
            return;
        }

        if (_mode == IommuMode.Passthrough)
        {
            Assert.All(_live.Where(l => l.Memory.Region == region), l => Assert.Equal(
                l.Address - (ulong)l.Memory.Offset, range.Address - (ulong)range.Memory.Offset));
        }
        else
        {
            Assert.True(range.Address >= Bench.Page && range.Address + (ulong)range.Length <= AddressPages * Bench.Page);
            Assert.DoesNotContain(_live, l => Overlap(l, range));
            NoteFlushes();
            Assert.False(_waiting.Exists(w => Overlap(w, range)), "an address was handed out again before the flush");
        }

        _live.Add(range);
    }

    /// <summary>A flush makes all ended ranges available again.</summary>
    private void NoteFlushes()
    {
        long flushes = _bench.Iommu.Counters.Flushes;
        if (flushes > _flushesSeen)
            _waiting.Clear();
        _flushesSeen = flushes;
    }

    private static bool Overlap(DeviceRange a, DeviceRange b) =>
        a.Address < b.Address + (ulong)b.Length && b.Address < a.Address + (ulong)a.Length;

    private bool HasGap(int pages)
    {
        int run = 0;
        for (ulong page = 1; page < AddressPages && run < pages; page++)
            run = _live.Exists(l => Covers(l, page * Bench.Page)) ? 0 : run + 1;
        return run >= pages;
    }

    private void Unmap(Random choice)
    {
        if (_live.Count == 0)
            return;
        int index = choice.Next(_live.Count);
        int count = choice.Next(3) == 0 ? Math.Min(choice.Next(1, 12), _live.Count - index) : 1;
        DeviceRange[] ranges = [.. _live[index..(index + count)]];
        if (count == 1)
            _bench.Space.Unmap(ranges[0]);
        else
            _bench.Space.Unmap(ranges);
        _unmapCalls++;
        _live.RemoveRange(index, count);
        _ended.AddRange(ranges);
        foreach (DeviceRange range in ranges)
        {
            if (_mode != IommuMode.Lazy)
                break;
            _waiting.Add(range);
            if (_waiting.Count <= FlushThreshold)
                continue;
            _waiting.Clear();
            _flushesSeen++;
        }

        Assert.Equal(_flushesSeen, _bench.Iommu.Counters.Flushes);
    }

    private void Access(Random choice)
    {
        ulong address = ChooseAddress(choice);
        int length = choice.Next(1, 4 * Bench.Page);
        DmaDirection access = choice.Next(2) == 0 ? DmaDirection.ToDevice : DmaDirection.FromDevice;
        (long faults, long stale) = (_bench.Iommu.Faults, _bench.Iommu.StaleAccesses);
        int good = GoodPrefix(address, length, access);

        byte[] data = new byte[length];
        Array.Fill(data, ++_next);
        Errno status = access == DmaDirection.ToDevice ? _bench.Port.Read(address, data) : _bench.Port.Write(address, data);
        string what = $"{access} 0x{address:x}+{length}: {status}, good for {good}";
        long newFaults = _bench.Iommu.Faults - faults;
        long newStale = _bench.Iommu.StaleAccesses - stale;
        Assert.True((status == Errno.EFAULT) == (newFaults == 1) && newFaults <= 1, what);
        MovePrefix(address, data, good, access, what);
        if (good == length)
        {
            Assert.True(status == Errno.Ok && newStale == 0, what);
        }
        else if (_mode == IommuMode.Strict)
        {
            ulong bad = address + (ulong)good;
            bool wasMapped = !_live.Exists(l => Covers(l, bad)) && _ended.Exists(e => Covers(e, bad));
            Assert.True(status == Errno.EFAULT && newStale == (wasMapped ? 1 : 0), what);
        }
        else
        {
            // Served or not, it was noticed; what a served one did to the memory is what the device asked for.
            Assert.True(newFaults + newStale > 0, what);
            if (status == Errno.Ok)
            {
                Assert.True(newStale > 0, what);
                Assert.True(_mode == IommuMode.Passthrough || IsWaiting(address + (ulong)good), what);
            }

            foreach ((MemoryRegion region, byte[] expected) in _regions.Zip(_expected))
                region.Span(0, expected.Length).CopyTo(expected);
        }

        CheckMemory();
    }

    private bool IsWaiting(ulong address) => _waiting.Exists(w => Covers(w, address));

    private ulong ChooseAddress(Random choice)
    {
        List<DeviceRange> near = choice.Next(4) > 0 || _ended.Count == 0 ? _live : _ended[Math.Max(0, _ended.Count - 10)..];
        if (near.Count == 0 || choice.Next(20) == 0)
            return (ulong)choice.Next(AddressPages * Bench.Page);
        DeviceRange range = near[choice.Next(near.Count)];
        return range.Address + (ulong)choice.NextInt64(range.Length);
    }

    /// <summary>Bytes from the start of an access that live mappings permit.</summary>
    private int GoodPrefix(ulong address, int length, DmaDirection access)
    {
        ulong at = address;
        ulong end = address + (ulong)length;
        while (at < end)
        {
            DeviceRange? range = _live.Find(l => Covers(l, at) && (l.Direction & access) == access);
            if (range is null)
                break;
            at = range.Address + (ulong)range.Length;
        }

        return (int)(Math.Min(at, end) - address);
    }

    private void MovePrefix(ulong address, byte[] data, int good, DmaDirection access, string what)
    {
        for (int done = 0; done < good;)
        {
            ulong at = address + (ulong)done;
            DeviceRange range = _live.Find(l => Covers(l, at))!;
            int count = (int)Math.Min((ulong)(good - done), range.Address + (ulong)range.Length - at);
            Span<byte> expected = _expected[Array.IndexOf(_regions, range.Memory.Region)].AsSpan(
                (int)(range.Memory.Offset + (long)(at - range.Address)), count);
            if (access == DmaDirection.ToDevice)
                Assert.True(expected.SequenceEqual(data.AsSpan(done, count)), what);
            else
                data.AsSpan(done, count).CopyTo(expected);
            done += count;
        }
    }

    private void CheckMemory()
    {
        foreach ((MemoryRegion region, byte[] expected) in _regions.Zip(_expected))
            Assert.True(region.Span(0, expected.Length).SequenceEqual(expected), $"region {region.Name} differs");
    }
}
