using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Tests.Harness;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Pci.Model;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tests;

public sealed class DataTests
{
    private const int Size = 4 << 20;
    private static readonly long[] s_fragments = [4096, 12288, 1 << 20, 8192, 4096, 3 << 20];

    [Theory]
    [InlineData(512, false)]
    [InlineData(512, true)]
    [InlineData(4096, false)]
    [InlineData(4096, true)]
    public void N2_reads_of_any_offset_and_size_bring_the_bytes_that_are_on_the_storage(int lba, bool ownThread)
    {
        using var file = new StorageFile(Size);
        Rig.With(
            rig =>
            {
                var random = new Random(1);
                Lane lane = rig.Lane();
                (DmaBufToken token, TestExporter memory) = rig.Register(s_fragments, DmaDirection.FromDevice);
                byte[] expected = new byte[(int)token.Buffer.Size];
                for (int i = 0; i < 300; i++)
                {
                    (long offset, int size, long sector) = Pick(random, rig.Device, token.Buffer.Size);
                    Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, offset, size, sector));
                    file.Contents.AsSpan((int)(sector * 512), size).CopyTo(expected.AsSpan((int)offset));
                }

                // Every byte of the buffer: what was not read into is untouched.
                Assert.Equal(expected, memory.Read(0, expected.Length));
            },
            new NvmeModelOptions { Path = file.Path, LbaSize = lba, Mdts = 0, OwnThread = ownThread });
    }

    [Theory]
    [InlineData(512, false)]
    [InlineData(512, true)]
    [InlineData(4096, false)]
    [InlineData(4096, true)]
    public void N2_writes_of_any_offset_and_size_put_the_bytes_of_the_buffer_on_the_storage(int lba, bool ownThread)
    {
        using var file = new StorageFile(Size);
        byte[] expected = (byte[])file.Contents.Clone();
        Rig.With(
            rig =>
            {
                var random = new Random(2);
                Lane lane = rig.Lane();
                (DmaBufToken token, TestExporter memory) = rig.Register(s_fragments, DmaDirection.ToDevice);
                byte[] contents = new byte[(int)token.Buffer.Size];
                random.NextBytes(contents);
                memory.Write(0, contents);
                for (int i = 0; i < 300; i++)
                {
                    (long offset, int size, long sector) = Pick(random, rig.Device, token.Buffer.Size);
                    Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Write, offset, size, sector));
                    contents.AsSpan((int)offset, size).CopyTo(expected.AsSpan((int)(sector * 512)));
                }

                Assert.Equal(Errno.Ok, lane.Flush());
            },
            new NvmeModelOptions { Path = file.Path, LbaSize = lba, Mdts = 0, OwnThread = ownThread });
        Assert.Equal(expected, File.ReadAllBytes(file.Path));
    }

    [Theory]
    [InlineData(511)]
    [InlineData(512)]
    [InlineData(513)]
    [InlineData(1023)]
    [InlineData(1024)]
    public void P8_transfers_around_the_ends_of_list_pages_are_exact(int listEntries)
    {
        Rig.With(
            rig =>
            {
                Lane lane = rig.Lane(depth: 2);
                (DmaBufToken token, TestExporter memory) = rig.Register(Enumerable.Repeat(8192L, 1024), DmaDirection.Bidirectional);
                foreach (int offset in (int[])[0, 4, 512, 4092])
                {
                    // PRP1 takes what is left of its page; the list describes the rest. 4 MiB is the most a command may carry.
                    int size = Math.Min(listEntries * 4096 + 4096 - RoundUp(offset, 512), 4 << 20);
                    byte[] data = new byte[size];
                    new Random(listEntries + offset).NextBytes(data);
                    memory.Write(4096 + offset, data);
                    Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Write, 4096 + offset, size, 8));
                    memory.Write(4096 + offset, new byte[size]);
                    Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 4096 + offset, size, 8));
                    Assert.Equal(data, memory.Read(4096 + offset, size));
                }
            },
            new NvmeModelOptions { SizeBytes = 16 << 20, Mdts = 0, OwnThread = false });
    }

    [Fact]
    public void N2_many_requests_in_flight_with_lists_do_not_disturb_each_others_lists() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane(depth: 64);
            const int Each = 3 * 4096;
            (DmaBufToken token, TestExporter memory) = rig.Register(64 * 2 * Each);
            byte[] data = new byte[64 * Each];
            new Random(3).NextBytes(data);
            memory.Write(0, data);
            for (int round = 0; round < 4; round++)
            {
                for (int i = 0; i < 64; i++)
                    Assert.True(lane.TrySubmit(token, BioOperation.Write, i * Each, Each, i * Each / 512, i));
                lane.Finish();
                memory.Write(64 * Each, new byte[64 * Each]);
                for (int i = 0; i < 64; i++)
                    Assert.True(lane.TrySubmit(token, BioOperation.Read, (64 + i) * Each, Each, i * Each / 512, i));
                lane.Finish();
                for (int i = 0; i < 64; i++)
                    Assert.Equal(Errno.Ok, lane.StatusOf(i));
                Assert.Equal(data, memory.Read(64 * Each, data.Length));
            }
        });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void B1_a_page_backed_bio_is_mapped_for_itself_alone_and_unmapped_when_it_ends(bool nonCoherent) => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane();
            using var region = MemoryRegion.Allocate("pages", 256 << 10);
            var random = new Random(4);
            byte[] data = new byte[96 << 10];
            random.NextBytes(data);
            foreach (int offset in (int[])[0, 4, 2048, 4096, 4100, 128 << 10])
            {
                data.CopyTo(region.Span(offset, data.Length));
                long before = rig.Iommu.LiveMappings;
                IommuCounters counters = rig.Iommu.Counters;
                Assert.Equal(Errno.Ok, lane.Do(BioOperation.Write, new MemoryRange(region, offset, data.Length), 64));
                region.Fill(0);
                Assert.Equal(Errno.Ok, lane.Do(BioOperation.Read, new MemoryRange(region, offset, data.Length), 64));
                Assert.Equal(data, region.Span(offset, data.Length).ToArray());
                Assert.Equal(before, rig.Iommu.LiveMappings);
                Assert.Equal(counters.Maps + 2, rig.Iommu.Counters.Maps);
                Assert.Equal(counters.SyncedBytes + (nonCoherent ? 4 * data.Length : 0), rig.Iommu.Counters.SyncedBytes);
            }
        },
        iommu: new ModelIommuOptions { NonCoherent = nonCoherent });

    [Fact]
    public void N7_a_request_syncs_its_own_range_before_and_after_and_nothing_else() => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane();
            (DmaBufToken token, _) = rig.Register([8192, 4096, 1 << 20]);
            _ = lane.Do(token, BioOperation.Read, 0, 512, 0);
            IommuCounters before = rig.Iommu.Counters;
            Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 512 << 10, 4096, 0));
            Assert.Equal(
                (before.SyncsForDevice + 1, before.SyncsForCpu + 1, before.SyncedBytes + 8192),
                (rig.Iommu.Counters.SyncsForDevice, rig.Iommu.Counters.SyncsForCpu, rig.Iommu.Counters.SyncedBytes));

            // Over three ranges: each gets its part.
            before = rig.Iommu.Counters;
            Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Write, 4096, 16384, 0));
            Assert.Equal(before.SyncsForDevice + 3, rig.Iommu.Counters.SyncsForDevice);
            Assert.Equal(before.SyncsForCpu + 3, rig.Iommu.Counters.SyncsForCpu);
            Assert.Equal(before.SyncedBytes + 2 * 16384, rig.Iommu.Counters.SyncedBytes);
        },
        iommu: new ModelIommuOptions { NonCoherent = true });

    [Fact]
    public void N7_on_a_coherent_address_space_nothing_is_synced() => Rig.With(rig =>
    {
        Lane lane = rig.Lane();
        (DmaBufToken token, _) = rig.Register(1 << 20);
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Read, 0, 65536, 0));
        Assert.Equal(Errno.Ok, lane.Do(token, BioOperation.Write, 0, 65536, 0));
        Assert.Equal((0L, 0L), (rig.Iommu.Counters.SyncsForDevice, rig.Iommu.Counters.SyncsForCpu));
    });

    private static (long Offset, int Size, long Sector) Pick(Random random, BlockDevice device, long bufferSize)
    {
        int lba = device.Limits.LogicalBlockSize;
        int size = random.Next(4) == 0 ? random.Next(1, (2 << 20) / lba + 1) * lba : random.Next(1, (64 << 10) / lba + 1) * lba;
        long offset = random.NextInt64((bufferSize - size) / 4 + 1) * 4;
        long sector = random.NextInt64((device.Capacity - size) / lba + 1) * (lba / 512);
        return (offset, size, sector);
    }

    private static int RoundUp(int value, int unit) => (value + unit - 1) / unit * unit;

    private sealed class StorageFile : IDisposable
    {
        internal StorageFile(int size)
        {
            Path = System.IO.Path.GetTempFileName();
            Contents = new byte[size];
            new Random(size).NextBytes(Contents);
            File.WriteAllBytes(Path, Contents);
        }

        internal string Path { get; }

        internal byte[] Contents { get; }

        public void Dispose() => File.Delete(Path);
    }
}
