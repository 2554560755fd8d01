using System.Diagnostics;

namespace DmaBufIo.ContractTests;

/// <content>Data: each direction on its own, against a truth that was written another way.</content>
public abstract partial class ImporterContract
{
    /// <summary>Reads bring the right bytes to the right place, also across pieces of memory, and nothing else is touched.</summary>
    [Fact]
    public virtual void N1_reads_bring_the_bytes_of_the_device_to_their_place_in_the_buffer() => OnStage(
        stage =>
        {
            foreach ((int bufferOffset, int length) in Ranges(stage))
                stage.CheckRead(FileOffset(stage, length), bufferOffset, Bytes(bufferOffset + length, length));
        },
        4096, 8192, 4096, 128 << 10, 64 << 10);

    /// <summary>Writes bring the right bytes to the device.</summary>
    [Fact]
    public virtual void N1_writes_bring_the_bytes_of_the_buffer_to_their_place_on_the_device() => OnStage(
        stage =>
        {
            foreach ((int bufferOffset, int length) in Ranges(stage))
                stage.CheckWrite(FileOffset(stage, length), bufferOffset, Bytes(bufferOffset + length, length));
        },
        4096, 8192, 4096, 128 << 10, 64 << 10);

    private static IEnumerable<(int BufferOffset, int Length)> Ranges(ImporterStage stage)
    {
        int block = stage.Target.BlockSize;
        int align = stage.Target.MemoryAlignment;
        Debug.Assert(align <= 4096, "memory alignments are smaller than a page");
        int longest = (int)Math.Min(stage.Target.Capacity, 192 << 10) / block * block;
        yield return (0, stage.Blocks(1));
        yield return (align, stage.Blocks(1));
        yield return (4096 - align, stage.Blocks(4096));
        yield return (0, stage.Blocks(4096));
        yield return (8192 + align, Math.Min(longest, stage.Blocks(65536)));
        yield return (0, longest);
        yield return (12288 - align, Math.Min(longest, stage.Blocks(20000)));
    }

    private long FileOffset(ImporterStage stage, int length)
    {
        if (!Can(ImporterCapabilities.KeepsData))
            return 0;
        long room = stage.Target.Capacity - length;
        return room / 2 / stage.Target.BlockSize * stage.Target.BlockSize;
    }
}
