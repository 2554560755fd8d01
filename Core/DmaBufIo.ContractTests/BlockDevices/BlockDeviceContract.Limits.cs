using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <content>Limits are kept by whoever stands above, so they must be true (B3), and sizes are 64 bits (B4).</content>
public abstract partial class BlockDeviceContract
{
    /// <summary>The limits are those of a block device.</summary>
    [Fact]
    public virtual void B3_the_limits_are_sane_and_do_not_change() => OnStage(stage =>
    {
        QueueLimits limits = stage.Limits;
        long capacity = stage.Device.Capacity;
        stage.World.Check(int.IsPow2(limits.LogicalBlockSize) && limits.LogicalBlockSize is >= 512 and <= 65536, "B3", $"the logical block is {limits.LogicalBlockSize} bytes; it is a power of two from 512 to 65536.");
        stage.World.Check(int.IsPow2(limits.DmaAlignment) && limits.DmaAlignment <= 4096, "B3", $"the DMA alignment is {limits.DmaAlignment}; it is a power of two, at most a page.");
        stage.World.Check(limits.MaxBytes >= limits.LogicalBlockSize && limits.MaxBytes % limits.LogicalBlockSize == 0, "B3", $"the largest bio has {limits.MaxBytes} bytes; it is a multiple of the logical block of {limits.LogicalBlockSize}.");
        stage.World.Check(limits.MaxSegments >= 1, "B3", $"a bio may have {limits.MaxSegments} segments; one is the least.");
        stage.World.Check(limits.MaxSegments > 1 || limits.DmaAlignment >= limits.LogicalBlockSize, "B3", $"a bio may have one segment, and memory is aligned to {limits.DmaAlignment} bytes: a block of {limits.LogicalBlockSize} at such an offset may lie in two. Ask for an alignment of a block, or take two segments.");
        stage.World.Check(capacity > 0 && capacity % limits.LogicalBlockSize == 0, "B3", $"the capacity is {capacity} bytes; it is a multiple of the logical block of {limits.LogicalBlockSize}.");
        stage.Lane().Do("B3", stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.Block));
        stage.World.Check(stage.Device.Limits == limits && stage.Device.Capacity == capacity, "B3", $"the limits were {limits} and a capacity of {capacity}, and after a read {stage.Device.Limits} and {stage.Device.Capacity}.");
    });

    /// <summary>Bios of all sizes up to the largest, at offsets that only just keep the alignment, are taken and move their bytes.</summary>
    [Fact]
    public virtual void B3_every_bio_within_the_limits_is_taken() => OnStage(stage =>
    {
        BlockLane lane = stage.Lane();
        int align = stage.Limits.DmaAlignment;
        int largest = stage.LargestBio;
        foreach (BioBacking kind in stage.Kinds)
        {
            foreach (int wanted in new[] { 1, stage.Block + 1, 4096, 20000, 65536, 131072, 1 << 20, largest - stage.Block, largest })
            {
                int size = Math.Clamp(stage.Blocks(Math.Max(1, wanted)), stage.Block, largest);
                foreach (long memory in new long[] { 0, align, (512 + align) & -align, 4096 - align, 12288 })
                {
                    long place = (stage.Device.Capacity - size) / stage.Block * stage.Block;
                    byte[] data = Bytes(size + (int)memory, size);
                    stage.Write(lane, kind, place, memory, data, "B3");
                    if (Can(BlockDeviceCapabilities.KeepsData))
                        stage.CheckRead(lane, kind, place, memory, data, "B3");
                    else
                        lane.Do("B3", stage.Plan(kind, BioOperation.Read, place, memory, size));
                }
            }
        }
    });

    /// <summary>A buffer in pieces of a page: bios of as many segments as the limits allow are taken, and move their bytes.</summary>
    [Fact]
    public virtual void B3_a_bio_of_as_many_segments_as_the_limits_allow_is_taken() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.Tokens);
        SkipUnless(Pieces(0, stage.Block) <= stage.Limits.MaxSegments, $"A block of {stage.Block} bytes has more than {stage.Limits.MaxSegments} pieces of a page.");
        PuppetExporter buffer = stage.World.CreateBuffer("fragments", [.. Enumerable.Repeat(4096L, 256)]);
        DmaBufToken token = stage.Register(buffer);
        BlockLane lane = stage.Lane();

        // The first request makes the map; its smallest segment decides.
        lane.Do("B3", new BioPlan(BioOperation.Read, 0, 0, stage.Blocks(512), null, token));
        int largest = (int)Math.Min(Math.Min(stage.Limits.MaxBytesFor(4096), buffer.Buffer.Size - 8192), stage.Device.Capacity) / stage.Block * stage.Block;
        foreach (int size in new[] { Math.Min(largest, stage.Blocks(8192)), largest })
        {
            foreach (long memory in new long[] { 0, stage.Limits.DmaAlignment, 4096 - stage.Limits.DmaAlignment })
            {
                // A block that is larger than the pieces may be too much for the segments.
                if (Pieces(memory, size) > stage.Limits.MaxSegments)
                    continue;
                byte[] data = Bytes(size + (int)memory, size);
                buffer.Write(memory, data);
                var plan = new BioPlan(BioOperation.Write, 0, memory, size, null, token);
                lane.Do("B3", plan);
                if (!Can(BlockDeviceCapabilities.KeepsData))
                    continue;
                stage.CheckRead(lane, BioBacking.Pages, 0, 4096, data, "B3");
                buffer.Write(memory, new byte[size]);
                lane.Do("B3", plan with { Operation = BioOperation.Read });
                byte[] found = new byte[size];
                buffer.Read(memory, found);
                stage.CheckSame(data, found, "B3", $"what a {plan} of a fragmented buffer has left");
            }
        }
    });

    /// <summary>A place beyond 2 and 4 GiB is another place than those at its beginning.</summary>
    [Fact]
    public virtual void B4_places_beyond_4_GiB_are_places_of_their_own() => OnStage(
        world =>
        {
            SkipUnless(BlockDeviceCapabilities.Large);
            return Fixture.OpenLarge(world);
        },
        stage =>
        {
            const long Gigabyte = 1L << 30;
            stage.World.Check(stage.Device.Capacity >= (4 * Gigabyte) + (1 << 20), "B4", $"the fixture's large device has {stage.Device.Capacity} bytes.");
            BlockLane lane = stage.Lane();
            int size = stage.BioOf(4096);
            long end = stage.Device.Capacity - size;
            long[] places = [65536, end & 0xFFFF_FFFF & -stage.Block, (2 * Gigabyte) + 65536, (4 * Gigabyte) + 65536, end];
            places = [.. places.Distinct()];
            for (int i = 0; i < places.Length; i++)
                stage.Write(lane, BioBacking.Pages, places[i], 0, Bytes(i, size), "B4");
            foreach (BioBacking kind in stage.Kinds)
            {
                if (!Can(BlockDeviceCapabilities.KeepsData))
                    continue;
                for (int i = 0; i < places.Length; i++)
                    stage.CheckRead(lane, kind, places[i], 4096, Bytes(i, size), "B4");
            }
        });

    /// <summary>A request through a file that is longer than the largest bio moves all its bytes.</summary>
    [Fact]
    public virtual void B4_a_request_longer_than_any_bio_moves_all_its_bytes() => OnStage(stage =>
    {
        int length = (int)Math.Min(Math.Min((stage.Limits.MaxBytes * 3L) + stage.Block, 3 << 20), stage.Device.Capacity) / stage.Block * stage.Block;
        SkipUnless(length > stage.Limits.MaxBytes, $"Bios may have {stage.Limits.MaxBytes} bytes: no request of the contract is longer.");
        byte[] data = Bytes(4, length);
        stage.Put(BioBacking.Pages, 0, data);
        var file = new BlockDeviceFile(stage.Device);
        try
        {
            using (var ring = new Ring(new RingOptions { Name = "contract", Entries = 4, BufferSlots = 1 }))
            {
                ring.RegisterBuffer(0, new BufferRegistration { Memory = stage.Pages, File = file, Mapping = BufferMapping.PerRequest });
                ring.TryWriteFixed(file, 0, 0, length, 0, 1);
                Reap(stage, ring, length, "write");
                stage.Put(BioBacking.Pages, 0, new byte[length]);
                ring.TryReadFixed(file, 0, 0, length, 0, 2);
                Reap(stage, ring, length, "read");
                ring.RemoveBuffer(0).WaitReleased();
            }

            if (Can(BlockDeviceCapabilities.KeepsData))
                stage.CheckSame(data, stage.Get(BioBacking.Pages, 0, length), "B4", $"what a read of {length} bytes has brought");
        }
        finally
        {
            file.Put();
        }
    });

    /// <summary>How many pieces of a page a range touches.</summary>
    private static long Pieces(long offset, long size) => ((offset + size + 4095) / 4096) - (offset / 4096);

    private static void Reap(BlockDeviceStage stage, Ring ring, int length, string what)
    {
        ring.Submit();
        var completions = new RingCompletion[1];
        stage.World.Eventually(() => ring.Reap(completions) == 1, "N8", $"a {what} of {length} bytes through a file has not ended.");
        stage.World.Check(completions[0].Status == Errno.Ok && completions[0].Bytes == length, "B4", $"a {what} of {length} bytes through a file ended with {completions[0].Status} and {completions[0].Bytes} bytes.");
    }
}
