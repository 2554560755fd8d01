using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.NvmePci.Tests.Harness;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Pci.Model;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.NvmePci.Tests;

/// <summary>Memory of the application through ring, file and driver to the controller: premapped and mapped per request.</summary>
public sealed class RingMemoryTests
{
    private const int BufferSize = 1 << 20;
    private const int AreaSize = 64 << 10;
    private const int Areas = BufferSize / AreaSize;

    [Theory]
    [InlineData(BufferMapping.Premapped, IommuMode.Strict, false, true)]
    [InlineData(BufferMapping.Premapped, IommuMode.Lazy, false, false)]
    [InlineData(BufferMapping.PerRequest, IommuMode.Strict, false, true)]
    [InlineData(BufferMapping.PerRequest, IommuMode.Strict, true, false)]
    [InlineData(BufferMapping.PerRequest, IommuMode.Lazy, false, false)]
    [InlineData(BufferMapping.PerRequest, IommuMode.Passthrough, true, true)]
    public void R2_I6_N2_random_requests_leave_what_two_byte_arrays_say_in_either_mapping(
        BufferMapping mapping, IommuMode mode, bool nonCoherent, bool ownThread)
    {
        for (int run = 0; run < 4; run++)
        {
            int seed = Random.Shared.Next();
            Rig.With(
                rig =>
                {
                    try
                    {
                        Generated(rig, mapping, new Random(seed));
                    }
                    catch (Exception e)
                    {
                        throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
                    }
                },
                Rig.Small with { SizeBytes = BufferSize, OwnThread = ownThread, Mdts = 3 },
                iommu: new ModelIommuOptions { Mode = mode, NonCoherent = nonCoherent });
        }
    }

    [Theory]
    [InlineData(BufferMapping.Premapped, 1, 0)]
    [InlineData(BufferMapping.PerRequest, 0, 1)]
    public void Premapped_memory_is_mapped_once_and_the_other_once_per_request(BufferMapping mapping, int once, int perRequest) => Rig.With(
        rig =>
        {
            using var memory = MemoryRegion.Allocate("own", BufferSize);
            var file = new BlockDeviceFile(rig.Device);
            using (var ring = new Ring(new RingOptions { Name = "ring", Entries = 16 }))
            {
                ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = file, Mapping = mapping });
                IommuCounters before = rig.Iommu.Counters;
                for (int i = 0; i < 100; i++)
                    Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), Do(ring, file, i % 2 == 0, i * 4096, 4096, i * 4096));
                IommuCounters after = rig.Iommu.Counters;
                Assert.Equal(
                    (once + (100 * perRequest), 100 * perRequest), (after.Maps - before.Maps, after.Unmaps - before.Unmaps));
                Assert.Equal(Errno.Ok, ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken));
                Assert.Equal(rig.Iommu.Counters.Maps - before.Maps, rig.Iommu.Counters.Unmaps - before.Unmaps);
            }

            file.Put();
        });

    [Theory]
    [InlineData(4096)]
    [InlineData(65536)]
    public void N1_a_request_that_is_mapped_for_itself_allocates_what_the_mapping_allocates_and_nothing_else(int length) => Rig.With(
        rig =>
        {
            using var memory = MemoryRegion.Allocate("own", BufferSize);
            DmaAddressSpace space = rig.Function.AddressSpace;
            var file = new BlockDeviceFile(rig.Device);
            using (var ring = new Ring(new RingOptions { Name = "ring", Entries = 16 }))
            {
                ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = file, Mapping = BufferMapping.PerRequest });
                var completions = new RingCompletion[1];
                long mapping = long.MaxValue;
                long request = long.MaxValue;
                for (int window = 0; window < 6; window++)
                {
                    // The first of them warm up.
                    mapping = Math.Min(mapping, Allocated(() =>
                        space.Unmap(space.Map(new MemoryRange(memory, 0, length), DmaDirection.FromDevice, "own"))));
                    request = Math.Min(request, Allocated(() =>
                    {
                        ring.TryReadFixed(file, 0, 0, length, 0, 1);
                        ring.Submit();
                        ring.Reap(completions, 1);
                    }));
                }

                Assert.True(mapping > 0, "the model's mapping allocates nothing: the comparison says nothing");
                Assert.Equal(mapping, request);
            }

            file.Put();
        },
        iommu: new ModelIommuOptions { InvalidationThread = false }); // a wait that sleeps for an acknowledgement allocates its reason

    private static long Allocated(Action action)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 5000; i++)
            action();
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    [Fact]
    public void A_request_per_request_that_the_address_space_cannot_map_ends_with_its_answer_and_leaves_nothing() => Rig.With(
        rig =>
        {
            using var memory = MemoryRegion.Allocate("own", BufferSize);
            var file = new BlockDeviceFile(rig.Device);
            using (var ring = new Ring(new RingOptions { Name = "ring", Entries = 16 }))
            {
                ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = file, Mapping = BufferMapping.PerRequest });
                long live = rig.Iommu.LiveMappings;
                List<DeviceRange> taken = TakeAllAddresses(rig.Function.AddressSpace, memory);
                Assert.Equal(new RingCompletion(1, Errno.ENOMEM, 0), Do(ring, file, read: true, 0, 4096, 0));
                taken.ForEach(rig.Function.AddressSpace.Unmap);
                Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), Do(ring, file, read: true, 0, 4096, 0));
                Assert.Equal(live, rig.Iommu.LiveMappings);
            }

            file.Put();
        },
        iommu: new ModelIommuOptions { AddressBits = 22, ReuseDelay = 0 });

    private static List<DeviceRange> TakeAllAddresses(DmaAddressSpace space, MemoryRegion memory)
    {
        var taken = new List<DeviceRange>();
        for (long size = BufferSize; size >= 4096;)
        {
            try
            {
                taken.Add(space.Map(new MemoryRange(memory, 0, size), DmaDirection.ToDevice, "hog"));
            }
            catch (DmaBufIoException e) when (e.Errno == Errno.ENOMEM)
            {
                size /= 2;
            }
        }

        return taken;
    }

    private static RingCompletion Do(Ring ring, IoFile file, bool read, long offset, long length, long fileOffset)
    {
        Assert.True(read
            ? ring.TryReadFixed(file, 0, offset, length, fileOffset, 1)
            : ring.TryWriteFixed(file, 0, offset, length, fileOffset, 1));
        ring.Submit(TestContext.Current.CancellationToken);
        var completions = new RingCompletion[1];
        Assert.Equal(1, ring.Reap(completions, 1, TestContext.Current.CancellationToken));
        return completions[0];
    }

    private static void Generated(Rig rig, BufferMapping mapping, Random random)
    {
        using var memory = MemoryRegion.Allocate("own", BufferSize);
        random.NextBytes(memory.Span(0, BufferSize));
        byte[] buffer = memory.Span(0, BufferSize).ToArray();
        var file = new BlockDeviceFile(rig.Device);
        byte[] storage;
        using (var ring = new Ring(new RingOptions { Name = "ring", Entries = Areas, Bios = random.Next(Areas, 64) }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = file, Mapping = mapping });
            storage = Fill(ring, file, buffer);
            for (int round = 0; round < 30; round++)
                Round(ring, file, random, buffer, storage);
            Assert.True(memory.Span(0, BufferSize).SequenceEqual(buffer), "the memory holds other bytes than the model");

            // The storage's contents, read the other way.
            for (int at = 0; at < BufferSize; at += AreaSize)
                Assert.Equal(Errno.Ok, Do(ring, file, read: true, at, AreaSize, at).Status);
            Assert.True(memory.Span(0, BufferSize).SequenceEqual(storage), "the storage holds other bytes than the model");
            Assert.Equal(Errno.Ok, ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken));
        }

        file.Put();
        Assert.Equal(0, file.References);
    }

    private static byte[] Fill(Ring ring, IoFile file, byte[] buffer)
    {
        for (int at = 0; at < BufferSize; at += AreaSize)
            Assert.Equal(Errno.Ok, Do(ring, file, read: false, at, AreaSize, BufferSize - AreaSize - at).Status);
        byte[] storage = new byte[BufferSize];
        for (int at = 0; at < BufferSize; at += AreaSize)
            buffer.AsSpan(at, AreaSize).CopyTo(storage.AsSpan(BufferSize - AreaSize - at));
        return storage;
    }

    /// <summary>One request for each area of the buffer and of the storage, all in flight together.</summary>
    private static void Round(Ring ring, IoFile file, Random random, byte[] buffer, byte[] storage)
    {
        int[] places = [.. Enumerable.Range(0, Areas)];
        random.Shuffle(places);
        var expected = new Dictionary<ulong, long>();
        for (int area = 0; area < Areas; area++)
        {
            BufferRange[] ranges = Ranges(random, area);
            long total = ranges.Sum(static r => r.Length);
            long at = (places[area] * (long)AreaSize) + (512 * random.NextInt64(((AreaSize - total) / 512) + 1));
            bool read = random.Next(2) == 0;
            bool taken = ranges.Length > 1
                ? read ? ring.TryReadFixedVector(file, 0, ranges, at, (ulong)area)
                : ring.TryWriteFixedVector(file, 0, ranges, at, (ulong)area)
                : read ? ring.TryReadFixed(file, 0, ranges[0].Offset, total, at, (ulong)area)
                : ring.TryWriteFixed(file, 0, ranges[0].Offset, total, at, (ulong)area);
            Assert.True(taken, "the ring is full");
            expected.Add((ulong)area, total);
            foreach (BufferRange range in ranges)
            {
                Span<byte> here = buffer.AsSpan((int)range.Offset, (int)range.Length);
                Span<byte> there = storage.AsSpan((int)at, (int)range.Length);
                if (read)
                    there.CopyTo(here);
                else
                    here.CopyTo(there);
                at += range.Length;
            }
        }

        ring.Submit(TestContext.Current.CancellationToken);
        var completions = new RingCompletion[Areas];
        int reaped = 0;
        while (reaped < Areas)
            reaped += ring.Reap(completions.AsSpan(reaped), 1, TestContext.Current.CancellationToken);
        foreach (RingCompletion completion in completions)
        {
            Assert.True(expected.Remove(completion.UserData, out long bytes), $"request {completion.UserData} completed twice");
            Assert.Equal((Errno.Ok, bytes), (completion.Status, completion.Bytes));
        }
    }

    private static BufferRange[] Ranges(Random random, int area)
    {
        int count = random.Next(3) == 0 ? random.Next(2, 5) : 1;
        int share = AreaSize / count & -512;
        var ranges = new BufferRange[count];
        for (int i = 0; i < count; i++)
        {
            long length = 512 * random.NextInt64(1, share / 512);
            ranges[i] = new BufferRange((area * AreaSize) + (i * share) + (4 * random.NextInt64(((share - length) / 4) + 1)), length);
        }

        random.Shuffle(ranges);
        return ranges;
    }
}
