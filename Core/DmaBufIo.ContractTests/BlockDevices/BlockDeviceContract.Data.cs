using DmaBufIo.Block;

namespace DmaBufIo.ContractTests;

/// <content>The data is the same for both kinds of backing (B1).</content>
public abstract partial class BlockDeviceContract
{
    /// <summary>What is written from one kind of memory is read into the other, and nothing beside it is touched.</summary>
    [Fact]
    public virtual void B1_pages_and_a_map_of_the_same_memory_give_the_same_data() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.KeepsData);
        BlockLane lane = stage.Lane();
        int seed = 0;
        foreach (BioBacking from in stage.Kinds)
        {
            foreach (BioBacking to in stage.Kinds)
            {
                foreach ((long deviceOffset, long memoryOffset, int size) in Ranges(stage))
                {
                    byte[] data = Bytes(++seed, size);
                    stage.Write(lane, from, deviceOffset, memoryOffset, data, "B1");
                    stage.CheckRead(lane, to, deviceOffset, memoryOffset, data, "B1");
                    stage.CheckRead(lane, to, deviceOffset, 65536 - stage.Limits.DmaAlignment, data, "B1");
                }
            }
        }
    });

    /// <summary>One call of Submit with bios of both kinds, neighbours on the device, from here and there in memory: each moves its own bytes, and none is merged with its neighbour.</summary>
    [Fact]
    public virtual void B1_bios_of_both_kinds_in_one_batch_are_not_mixed() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.KeepsData);
        SkipUnless(BlockDeviceCapabilities.Tokens);
        int size = stage.BioOf(4096);
        int count = stage.Device.Capacity < 32L * size ? 16 : 32;
        BlockLane lane = stage.Lane(count);
        byte[][] data = [.. Enumerable.Range(0, count).Select(i => Bytes(i, size))];
        for (int round = 0; round < 2; round++)
        {
            BioPlan[] writes = [.. Enumerable.Range(0, count).Select(i => One(BioOperation.Write, i, i + round, i * 7 % count))];
            for (int i = 0; i < count; i++)
                stage.Put(KindOf(i + round), writes[i].Offset, data[i]);
            lane.Do("B1", writes);
            BioPlan[] reads = [.. Enumerable.Range(0, count).Select(i => One(BioOperation.Read, i, i + round + 1, i * 11 % count))];
            lane.Do("B1", reads);
            for (int i = 0; i < count; i++)
                stage.CheckSame(data[i], stage.Get(KindOf(i + round + 1), reads[i].Offset, size), "B1", $"what a {reads[i]} in a batch of both kinds has brought");
        }

        BioPlan One(BioOperation operation, int place, int kind, int memory) => stage.Plan(KindOf(kind), operation, (long)place * size, (long)memory * size, size);

        static BioBacking KindOf(int i) => i % 2 == 0 ? BioBacking.Map : BioBacking.Pages;
    });

    /// <summary>Random requests, batches and polls against a plain byte array.</summary>
    [Fact]
    public virtual void B1_any_requests_in_any_batches_leave_what_a_byte_array_says() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.KeepsData);
        var model = new BlockDeviceModel(stage);
        Generated.Run(stage.World, "B1", GeneratedStep.Any, 40, 60, model.Run, () => model.CanGoOn);
    });

    private static IEnumerable<(long DeviceOffset, long MemoryOffset, int Size)> Ranges(BlockDeviceStage stage)
    {
        int align = stage.Limits.DmaAlignment;
        int largest = stage.LargestBio;
        long end = stage.Device.Capacity / stage.Block * stage.Block;
        foreach (int wanted in new[] { 1, 4096, 12288, 65536, largest })
        {
            int size = Math.Min(largest, stage.Blocks(wanted));
            yield return (0, 4096, size);
            yield return ((end - size) / 2 / stage.Block * stage.Block, 4096 + align, size);
            yield return (end - size, 8192 - align, size);
        }
    }
}
