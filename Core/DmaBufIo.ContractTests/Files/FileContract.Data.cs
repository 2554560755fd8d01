using DmaBufIo.Dma;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>Data: each direction on its own, in ranges and in vectors, across everything at which a request is cut.</content>
public abstract partial class FileContract
{
    /// <summary>Reads of any size bring the bytes that were asked for to where they were asked to, and nothing else is touched.</summary>
    [Fact]
    public virtual void I2_reads_bring_the_bytes_of_the_file_to_their_place() => OnStage(stage =>
    {
        foreach ((long fileOffset, int bufferOffset, int length) in Transfers(stage))
        {
            string what = $"a read of {length} bytes at {fileOffset} into the buffer at {bufferOffset}";
            byte[] expected = stage.FillBuffer(length);
            byte[] bytes = Bytes(length + 1, length);
            stage.Target.Give(fileOffset, bytes);
            bytes.CopyTo(expected, bufferOffset);
            stage.Read(fileOffset, bufferOffset, length);
            stage.Ended(stage.Run1("I2"), length, "I2", what);
            stage.CheckBuffer(expected, "I2", what);
        }
    });

    /// <summary>Writes of any size bring the bytes of the buffer to their place in the file, and nothing else is touched.</summary>
    [Fact]
    public virtual void I2_writes_bring_the_bytes_of_the_buffer_to_their_place() => OnStage(stage =>
    {
        if (Can(FileCapabilities.KeepsData))
            stage.Target.Give(0, Bytes(70, stage.Blocks(stage.Target.Capacity)));
        foreach ((long fileOffset, int bufferOffset, int length) in Transfers(stage))
        {
            string what = $"a write of {length} bytes from the buffer at {bufferOffset} to {fileOffset}";
            byte[] bytes = stage.FillBuffer(length);
            byte[] before = Can(FileCapabilities.KeepsData) ? stage.Target.Take(0, stage.Blocks(stage.Target.Capacity)) : [];
            stage.Target.Expect(fileOffset, length);
            stage.Write(fileOffset, bufferOffset, length);
            stage.Ended(stage.Run1("I2"), length, "I2", what);
            stage.CheckBytes(bytes.AsSpan(bufferOffset, length), stage.Target.Take(fileOffset, length), "I2", $"{what}: the file");
            if (before.Length == 0)
                continue;
            bytes.AsSpan(bufferOffset, length).CopyTo(before.AsSpan((int)fileOffset));
            stage.CheckBytes(before, stage.Target.Take(0, before.Length), "I2", $"{what}: the rest of the file");
        }
    });

    /// <summary>Several ranges: the file's bytes go to them one after the other.</summary>
    [Fact]
    public virtual void I6_a_read_into_several_ranges_fills_them_in_order() => OnStage(
        stage =>
        {
            foreach (BufferRange[] ranges in Vectors(stage))
            {
                string what = $"a read into {string.Join(", ", ranges.Select(static r => $"{r.Offset}+{r.Length}"))}";
                int length = (int)ranges.Sum(static r => r.Length);
                byte[] expected = stage.FillBuffer(length);
                byte[] bytes = Bytes(length + 1, length);
                stage.Target.Give(stage.Block, bytes);
                int done = 0;
                foreach (BufferRange range in ranges)
                {
                    bytes.AsSpan(done, (int)range.Length).CopyTo(expected.AsSpan((int)range.Offset));
                    done += (int)range.Length;
                }

                stage.ReadVector(stage.Block, ranges);
                stage.Ended(stage.Run1("I6"), length, "I6", what);
                stage.CheckBuffer(expected, "I6", what);
            }
        },
        FileCapabilities.KeepsData | FileCapabilities.Vectors);

    /// <summary>Several ranges: their bytes go to the file one after the other.</summary>
    [Fact]
    public virtual void I6_a_write_from_several_ranges_takes_them_in_order() => OnStage(
        stage =>
        {
            foreach (BufferRange[] ranges in Vectors(stage))
            {
                string what = $"a write from {string.Join(", ", ranges.Select(static r => $"{r.Offset}+{r.Length}"))}";
                byte[] bytes = stage.FillBuffer(ranges.Length);
                byte[] expected = [.. ranges.SelectMany(r => bytes.AsSpan((int)r.Offset, (int)r.Length).ToArray())];
                stage.WriteVector(stage.Block, ranges);
                stage.Ended(stage.Run1("I6"), expected.Length, "I6", what);
                stage.CheckBytes(expected, stage.Target.Take(stage.Block, expected.Length), "I6", $"{what}: the file");
            }
        },
        FileCapabilities.KeepsData | FileCapabilities.Vectors);

    /// <summary>Each device is given the addresses that its own map has: the whole file is read and written, small and large.</summary>
    [Fact]
    public virtual void I5_every_device_is_given_its_own_map() => OnStage(
        stage =>
        {
            SkipUnless(stage.Disks.Count > 1, "The file stands on one disk.");
            using var apart = new AddressesApart(stage);
            int length = stage.Blocks(16 << 10);
            byte[] buffer = stage.FillBuffer(80);
            for (long offset = 0; offset + length <= stage.Target.Capacity; offset += length)
            {
                int bufferOffset = (int)(offset / length % 8) * 4096;
                stage.Write(offset, bufferOffset, length);
                stage.Ended(stage.Run1("I5"), length, "I5", $"a write at {offset}");
                stage.CheckBytes(buffer.AsSpan(bufferOffset, length), stage.Target.Take(offset, length), "I5", $"a write at {offset}: the file");
                stage.Read(offset, 65536, length);
                stage.Ended(stage.Run1("I5"), length, "I5", $"a read at {offset}");
                buffer.AsSpan(bufferOffset, length).CopyTo(buffer.AsSpan(65536));
                stage.CheckBuffer(buffer, "I5", $"a read at {offset}");
            }

            foreach (PuppetBlockDevice disk in stage.Disks)
                stage.World.Check(disk.LiveMaps == 1, "I5", $"the file was used from end to end, and disk {disk.Name} has {disk.LiveMaps} maps.");
        },
        FileCapabilities.KeepsData | FileCapabilities.OnPuppets);

    /// <summary>Has the buffer mapped anew at addresses that differ from disk to disk: alike, one disk's would do for another.</summary>
    private sealed class AddressesApart : IDisposable
    {
        private readonly List<DeviceRange> _ranges = [];
        private readonly MemoryRegion _memory = MemoryRegion.Allocate("apart", 1 << 20);

        internal AddressesApart(FileStage stage)
        {
            RemovedBuffer removed = stage.Ring.RemoveBuffer(0);
            removed.WaitReleased(TestContext.Current.CancellationToken);
            for (int i = 0; i < stage.Disks.Count; i++)
            {
                for (int k = 0; k < i * 3; k++)
                    _ranges.Add(stage.Disks[i].Device.AddressSpace.Map(new MemoryRange(_memory, 0, _memory.Length), DmaDirection.ToDevice, "apart"));
            }

            stage.Register();
        }

        public void Dispose()
        {
            foreach (DeviceRange range in _ranges)
                range.Space.Unmap(range);
            _memory.Dispose();
        }
    }

    private IEnumerable<(long FileOffset, int BufferOffset, int Length)> Transfers(FileStage stage)
    {
        int align = stage.Target.MemoryAlignment;
        bool hasPlaces = Can(FileCapabilities.KeepsData);
        foreach ((int bufferOffset, int atLeast) in new[] { (0, 1), (4096 - align, 1), (align, 8192), (0, 65536), (8192, 100_000), (16384 - align, 300_000) })
        {
            int length = stage.Blocks(atLeast);
            yield return (0, bufferOffset, length);
            if (hasPlaces)
            {
                yield return ((stage.Target.Capacity - length) / stage.Block * stage.Block, bufferOffset, length);
                yield return ((stage.Target.Capacity - length) / 2 / stage.Block * stage.Block, bufferOffset, length);
            }
        }
    }

    private static IEnumerable<BufferRange[]> Vectors(FileStage stage)
    {
        // None overlaps another: what two ranges would leave in one place, nobody promises.
        int block = stage.Block;
        int align = stage.Target.MemoryAlignment;
        long second = Math.Max(8192, Pages(align + block));
        long last = Math.Max(100_000 & -align, Pages(second + stage.Blocks(30_000)));
        yield return [new BufferRange(0, stage.Blocks(4096))];
        yield return [new BufferRange(second, block), new BufferRange(0, block), new BufferRange(Math.Max(65536, 2 * second), 3L * block)];
        yield return [new BufferRange(last, stage.Blocks(40_000)), new BufferRange(align, block), new BufferRange(second, stage.Blocks(30_000))];

        static long Pages(long length) => (length + 4095) & -4096;
    }
}
