using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>What a file looks at before it issues anything: direct I/O, ranges, alignment, its end.</content>
public abstract partial class FileContract
{
    /// <summary>A file that is opened for buffered I/O takes no registered buffer.</summary>
    [Fact]
    public virtual void B5_a_file_opened_for_buffered_io_takes_no_registered_buffer() => OnStage(stage =>
    {
        ImporterTarget buffered = stage.Open(OpenFlags.None);
        int references = stage.Buffer.Buffer.References;
        Exception? refused = Record.Exception(() => stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Buffer.Buffer, File = buffered.File }));
        stage.World.Check(refused is DmaBufIoException { Errno: Errno.EINVAL }, "B5", $"a registration with a file that is opened for buffered I/O is refused by EINVAL; {refused?.Message ?? "it was taken"}");
        stage.World.Check(stage.Buffer.Buffer.References == references, "T2", "a registration that was refused keeps a reference on the buffer.");
    });

    /// <summary>The flag is looked at for every request: it may have been cleared since the buffer was registered.</summary>
    [Fact]
    public virtual void B5_direct_io_is_looked_at_again_for_every_request() => OnStage(stage =>
    {
        int length = stage.Blocks(4096);
        for (int round = 0; round < 2; round++)
        {
            byte[] bytes = Bytes(90 + round, length);
            stage.Target.Give(0, bytes);
            stage.Read(0, 0, length);
            stage.Ended(stage.Run1("B5"), length, "B5", "a read with direct I/O");
            byte[] expected = stage.FillBuffer(91);
            stage.File.SetDirect(false);
            stage.Read(0, 8192, length);
            stage.Refused(stage.Run1("B5"), Errno.EINVAL, "B5", "a read after direct I/O was switched off");
            stage.CheckBuffer(expected, "B5", "a read that was refused");
            stage.Write(0, 8192, length);
            stage.Refused(stage.Run1("B5"), Errno.EINVAL, "B5", "a write after direct I/O was switched off");
            if (Can(FileCapabilities.Vectors))
            {
                stage.ReadVector(0, [new BufferRange(0, length), new BufferRange(8192, length)]);
                stage.Refused(stage.Run1("B5"), Errno.EINVAL, "B5", "a read into several ranges after direct I/O was switched off");
            }

            if (Can(FileCapabilities.KeepsData))
                stage.CheckBytes(bytes, stage.Target.Take(0, length), "B5", "a write that was refused: the file");
            stage.File.SetDirect(true);
        }
    });

    /// <summary>Ranges that leave the buffer are EFAULT; a length of 0 succeeds and does nothing.</summary>
    [Fact]
    public virtual void R2_a_range_outside_the_buffer_is_refused_and_an_empty_one_succeeds() => OnStage(stage =>
    {
        long size = stage.Buffer.Buffer.Size;
        foreach ((long offset, long length) in new[] { (size - stage.Block, 2L * stage.Block), (size, stage.Block), (-4, stage.Block), (long.MaxValue - 3, stage.Block) })
        {
            stage.Read(0, offset, length);
            stage.Refused(stage.Run1("R2"), Errno.EFAULT, "R2", $"a read into {offset}+{length} of a buffer of {size} bytes");
            stage.Write(0, offset, length);
            stage.Refused(stage.Run1("R2"), Errno.EFAULT, "R2", $"a write from {offset}+{length} of a buffer of {size} bytes");
        }

        byte[] expected = stage.FillBuffer(92);
        stage.Read(0, 0, 0);
        stage.Ended(stage.Run1("R2"), 0, "R2", "a read of no bytes");
        stage.Write(0, size, 0);
        stage.Ended(stage.Run1("R2"), 0, "R2", "a write of no bytes");
        stage.CheckBuffer(expected, "R2", "requests of no bytes");
    });

    /// <summary>What is not aligned is EINVAL, and nothing of it is done.</summary>
    [Fact]
    public virtual void R2_unaligned_requests_are_refused() => OnStage(
        stage =>
        {
            int block = stage.Block;
            int align = stage.Target.MemoryAlignment;
            byte[] bytes = Bytes(93, 8 * block);
            stage.Target.Give(0, bytes);
            byte[] expected = stage.FillBuffer(94);
            var wrong = new List<(long FileOffset, long BufferOffset, long Length)> { (-block, 0, block) };
            if (block > 1)
                wrong.AddRange([(1, 0, block), (block / 2, 0, block), (0, 0, block - 1), (0, 0, block + (block / 2)), (0, 0, (2 * block) - 1)]);
            if (align > 1)
                wrong.AddRange([(0, 1, block), (0, align / 2, block), (block, 4096 - 1, 2L * block)]);
            foreach ((long fileOffset, long bufferOffset, long length) in wrong)
            {
                stage.Read(fileOffset, bufferOffset, length);
                stage.Refused(stage.Run1("R2"), Errno.EINVAL, "R2", $"a read of {length} bytes at {fileOffset} into the buffer at {bufferOffset}");
                stage.Write(fileOffset, bufferOffset, length);
                stage.Refused(stage.Run1("R2"), Errno.EINVAL, "R2", $"a write of {length} bytes at {fileOffset} from the buffer at {bufferOffset}");
            }

            if (Can(FileCapabilities.Vectors) && block > 1)
            {
                stage.ReadVector(0, [new BufferRange(0, block / 2), new BufferRange(4096, block / 2)]);
                stage.Refused(stage.Run1("R2"), Errno.EINVAL, "R2", "a read of a block into two halves of one");
            }

            stage.CheckBuffer(expected, "R2", "requests that were refused");
            stage.CheckBytes(bytes, stage.Target.Take(0, bytes.Length), "R2", "requests that were refused: the file");
        },
        FileCapabilities.KeepsData);

    /// <summary>A read across the end is short, one at or beyond it brings nothing, and both succeed.</summary>
    [Fact]
    public virtual void R2_a_read_at_the_end_of_the_file_is_short() => OnStage(
        stage =>
        {
            int block = stage.Block;
            long end = stage.File.Size / block * block;
            int length = stage.Blocks(4L * block);
            byte[] bytes = Bytes(95, 2 * block);
            stage.Target.Give(end - bytes.Length, bytes);
            byte[] expected = stage.FillBuffer(96);
            bytes.CopyTo(expected, 4096);
            stage.Read(end - bytes.Length, 4096, length);
            stage.Ended(stage.Run1("R2"), bytes.Length, "R2", $"a read of {length} bytes of which {bytes.Length} are before the end");
            stage.CheckBuffer(expected, "R2", "a read across the end of the file");
            foreach (long offset in new[] { end, end + block, end + (1L << 40) })
            {
                stage.Read(offset, 0, length);
                stage.Ended(stage.Run1("R2"), 0, "R2", $"a read at {offset} of a file of {end} bytes");
            }

            stage.CheckBuffer(expected, "R2", "reads beyond the end of the file");
        },
        FileCapabilities.KeepsData);

    /// <summary>A write across the end is short, one at or beyond it is ENOSPC.</summary>
    [Fact]
    public virtual void R2_a_write_at_the_end_of_the_file_is_short_or_finds_no_space() => OnStage(
        stage =>
        {
            int block = stage.Block;
            long end = stage.File.Size / block * block;
            int length = stage.Blocks(4L * block);
            byte[] bytes = stage.FillBuffer(97);
            stage.Write(end - (2L * block), 4096, length);
            stage.Ended(stage.Run1("R2"), 2L * block, "R2", $"a write of {length} bytes of which {2 * block} are before the end");
            stage.CheckBytes(bytes.AsSpan(4096, 2 * block), stage.Target.Take(end - (2L * block), 2 * block), "R2", "a write across the end: the file");
            foreach (long offset in new[] { end, end + block, end + (1L << 40) })
            {
                stage.Write(offset, 0, length);
                stage.Refused(stage.Run1("R2"), Errno.ENOSPC, "R2", $"a write at {offset} of a file of {end} bytes");
            }
        },
        FileCapabilities.KeepsData);

    /// <summary>A file that is opened for reading refuses writes, in whatever form they come.</summary>
    [Fact]
    public virtual void R2_a_file_opened_for_reading_refuses_writes() => OnStage(
        stage =>
        {
            int length = stage.Blocks(4096);
            byte[] bytes = Bytes(98, length);
            using ImporterTarget target = stage.Open(OpenFlags.Direct | OpenFlags.ReadOnly);
            target.Give(0, bytes);
            stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Buffer.Buffer, File = target.File });
            stage.FillBuffer(99);
            stage.Ring.TryReadFixed(target.File, 1, 0, length, 0, 1);
            stage.Ended(stage.Run1("R2"), length, "R2", "a read of a file that is opened for reading");
            byte[] found = new byte[length];
            stage.Buffer.Read(0, found);
            stage.CheckBytes(bytes, found, "R2", "a read of a file that is opened for reading: the buffer");
            stage.Ring.TryWriteFixed(target.File, 1, 8192, length, 0, 1);
            stage.Refused(stage.Run1("R2"), Errno.EBADF, "R2", "a write to a file that is opened for reading");
            if (Can(FileCapabilities.Vectors))
            {
                stage.Ring.TryWriteFixedVector(target.File, 1, new[] { new BufferRange(8192, length), new BufferRange(0, length) }, 0, 1);
                stage.Refused(stage.Run1("R2"), Errno.EBADF, "R2", "a write from several ranges to a file that is opened for reading");
            }

            stage.CheckBytes(bytes, target.Take(0, length), "R2", "writes that were refused: the file");
            stage.CloseRing();
        },
        FileCapabilities.KeepsData | FileCapabilities.ReadOnly);

    /// <summary>A buffer that is registered with one file is not for another one, whatever stands under both.</summary>
    [Fact]
    public virtual void T13_a_registration_is_for_its_file_alone() => OnStage(stage =>
    {
        int length = stage.Blocks(4096);
        using ImporterTarget other = stage.Open(OpenFlags.Direct);
        byte[] expected = stage.FillBuffer(100);
        stage.Ring.TryReadFixed(other.File, 0, 0, length, 0, 1);
        stage.Refused(stage.Run1("T13"), Errno.EBADF, "T13", "a read of a file with a buffer that is registered with another");
        stage.CheckBuffer(expected, "T13", "a read that was refused");
        stage.CloseRing();
    });
}
