using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Iov;
using DmaBufIo.Rings;
using DmaBufIo.Tests.House;

namespace DmaBufIo.Tests.Rings;

/// <summary>How the data of bounced requests goes, piece by piece, and how they end. Alone, because the bytes that the CPU copies are counted for the whole process.</summary>
[Collection(nameof(AllocationTests))]
public sealed class BounceTransferTests
{
    private const int Piece = BounceStage.Piece;

    [Fact]
    public void T16_a_request_longer_than_a_piece_goes_piece_by_piece_with_one_reference_and_a_snapshot_shows_it()
    {
        using var stage = new BounceStage();
        stage.Device.Hold = true;
        stage.Stage.Read((3 * Piece) + 512, 1001, 512, 1);
        stage.Stage.Write(2 * Piece, 65536 + 7, 65536, 2);
        stage.Stage.Submit();
        for (int done = 0; done < 4; done++)
        {
            Assert.Equal(done < 2 ? (2L, 2) : (1L, 1), (stage.Users(), stage.Device.Held));
            Assert.NotNull(DmaBufIoDiagnostics.Snapshot().Tokens.Single(t => t.Token == stage.BounceToken.Name).OldestRequest);
            stage.Device.Finish();
            stage.Ring.Context.ReapAsVisitor();
        }

        Assert.Equal(0, stage.Users());
        RingCompletion[] completions = stage.Stage.Reap(2);
        Assert.Equal([2UL, 1], completions.Select(static c => c.UserData));
        Assert.Equal([2L * Piece, (3 * Piece) + 512], completions.Select(static c => c.Bytes));
        Assert.True(stage.Buffer(1001, (3 * Piece) + 512).SequenceEqual(stage.Store(512, (3 * Piece) + 512)));
        Assert.True(stage.Buffer(65536 + 7, 2 * Piece).SequenceEqual(stage.Store(65536, 2 * Piece)));
        Assert.Equal(((5 * Piece) + 512L, 2L, 1L), (stage.Copied, stage.Ring.Counters.Bounced, stage.BounceToken.MapsMade));
    }

    [Fact]
    public void A_request_that_reaches_beyond_the_end_of_the_file_is_short_in_the_middle_of_a_piece()
    {
        using var stage = new BounceStage();
        int end = (int)stage.Device.Capacity;
        byte[] before = stage.Buffer(0, 65536).ToArray();
        Assert.Equal(new RingCompletion(1, Errno.Ok, Piece + 512) { Bounce = BounceReason.NotMappable }, stage.Stage.ReadOnce(5 * Piece, 1, end - Piece - 512));
        Assert.True(stage.Buffer(1, Piece + 512).SequenceEqual(stage.Store(end - Piece - 512, Piece + 512)));
        Assert.True(stage.Buffer(1 + Piece + 512, 40000).SequenceEqual(before.AsSpan(1 + Piece + 512, 40000)), "bytes that were not read have changed");
        Assert.Equal(Piece + 512, stage.Copied);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 0) { Bounce = BounceReason.NotMappable }, stage.Stage.ReadOnce(Piece, 1, end));
        Assert.Equal(new RingCompletion(1, Errno.Ok, Piece + 512) { Bounce = BounceReason.NotMappable }, stage.Stage.WriteOnce(5 * Piece, 7, end - Piece - 512));
        Assert.True(stage.Buffer(7, Piece + 512).SequenceEqual(stage.Store(end - Piece - 512, Piece + 512)));
        Assert.Equal(new RingCompletion(1, Errno.ENOSPC, 0) { Bounce = BounceReason.NotMappable }, stage.Stage.WriteOnce(512, 7, end));
        stage.AssertQuiet();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_first_error_ends_a_request_and_no_byte_of_a_piece_that_failed_reaches_the_buffer(bool write)
    {
        using var stage = new BounceStage();
        byte[] buffer = stage.Buffer(0, 65536).ToArray();
        byte[] store = stage.Device.Store[..65536].ToArray();
        stage.Device.Hold = true;
        if (write)
            stage.Stage.Write(4 * Piece, 3, 0);
        else
            stage.Stage.Read(4 * Piece, 3, 0);
        stage.Stage.Submit();
        stage.Device.Finish();
        stage.Ring.Context.ReapAsVisitor();
        stage.Device.FailWith = Errno.EIO;
        Assert.Equal([new RingCompletion(1, Errno.EIO, Piece) { Bounce = BounceReason.NotMappable }], stage.Stage.Drain());
        stage.Device.FailWith = Errno.Ok;
        (write ? buffer.AsSpan(3, Piece) : store.AsSpan(0, Piece)).CopyTo(write ? store : buffer.AsSpan(3));
        Assert.True(stage.Buffer(0, 65536).SequenceEqual(buffer));
        Assert.True(stage.Device.Store[..65536].SequenceEqual(store));
        Assert.Equal((write ? 2L * Piece : Piece, (long)Piece, 1L), (stage.Copied, stage.Ring.Counters.BouncedBytes, stage.Ring.Counters.Failed));
        stage.AssertQuiet();
    }

    [Fact]
    public void B3_a_piece_that_the_device_takes_in_several_bios_counts_none_of_them_when_one_fails()
    {
        using var stage = new Stage(ring: BounceStage.Options, limits: new QueueLimits(512) { MaxBytes = 1024 }, register: false);
        stage.Device.TakesTokens = false;
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File });
        new Random(3).NextBytes(stage.Device.Store);
        stage.Device.Hold = true;
        stage.Read(Piece + 1024, 1, 0);
        stage.Submit();
        stage.Device.Finish(1);
        stage.Ring.Context.ReapAsVisitor();
        Assert.Equal(0, stage.Exporter.Region.Span(0, Piece).IndexOfAnyExcept((byte)0) + 1);
        stage.Device.FailWith = Errno.EIO;
        Assert.Equal([new RingCompletion(1, Errno.EIO, 0) { Bounce = BounceReason.NotMappable }], stage.Drain());
        Assert.Equal(0, stage.Exporter.Region.Span(0, Piece).IndexOfAnyExcept((byte)0) + 1);
        stage.Device.FailWith = Errno.Ok;
        Assert.Equal(Piece + 1024, stage.ReadOnce(Piece + 1024, 1, 0).Bytes);
        Assert.True(stage.Exporter.Region.Span(1, Piece + 1024).SequenceEqual(stage.Device.Store[..(Piece + 1024)]));
    }

    [Theory]
    [InlineData(BounceReason.NotMappable, 0)]
    [InlineData(BounceReason.Unaligned, 2)]
    public void I6_vectors_go_range_by_range_whatever_their_lengths(BounceReason reason, int shift)
    {
        using var stage = new BounceStage(reason == BounceReason.NotMappable ? reason : BounceReason.None);
        BufferRange[] ranges = [new(8192 + shift, 1000), new(0, 0), new(16384, 5000), new(65536 + 3, 2192)];
        Assert.Equal(new RingCompletion(1, Errno.Ok, 8192) { Bounce = reason }, stage.Stage.ReadVectorOnce(1024, ranges));
        Assert.Equal(stage.Store(1024, 8192).ToArray(), Bytes(stage, ranges));
        Assert.True(stage.Ring.TryWriteFixedVector(stage.Stage.File, 0, ranges.AsMemory(0, 3), 65536, 2));
        Assert.Equal(new RingCompletion(2, Errno.EINVAL, 0), Assert.Single(stage.Stage.Run()));
        BufferRange[] whole = [new(1, 6000), new(32768, 2192)];
        Assert.True(stage.Ring.TryWriteFixedVector(stage.Stage.File, 0, whole, 65536, 2));
        Assert.Equal(new RingCompletion(2, Errno.Ok, 8192) { Bounce = reason }, Assert.Single(stage.Stage.Run()));
        Assert.Equal(stage.Store(65536, 8192).ToArray(), Bytes(stage, whole));
        Assert.Equal(2 * 8192, stage.Copied);
        stage.AssertQuiet();
    }

    [Fact]
    public void A_buffer_whose_memory_lies_in_several_places_is_copied_across_their_joints()
    {
        using var stage = new BounceStage(register: false);
        using var pieces = new PieceExporter(4096, 12288, 4096);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = pieces.Buffer, File = stage.Stage.File });
        Assert.Equal(16384, stage.Stage.ReadOnce(16384, 4001, 0).Bytes);
        Assert.True(pieces.Contents.AsSpan(4001, 16384).SequenceEqual(stage.Store(0, 16384)));
        Assert.Equal(16384, stage.Stage.WriteOnce(16384, 77, 65536).Bytes);
        Assert.True(pieces.Contents.AsSpan(77, 16384).SequenceEqual(stage.Store(65536, 16384)));
        stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
    }

    [Fact]
    public void T16_a_request_that_finds_no_piece_is_parked_without_a_reference_and_direct_ones_pass_it()
    {
        using var stage = new BounceStage(BounceReason.None, ring: BounceStage.Options with { BouncePoolSize = Piece });
        stage.Device.Hold = true;
        stage.Stage.Read(2 * Piece, 1, 0, 1);
        stage.Stage.Read(512, 65537, 4096, 2);
        stage.Stage.Write(Piece, 131073, 65536, 3);
        stage.Stage.Read(512, 32768, 8192, 4);
        stage.Stage.Submit();
        Assert.Equal((1L, 2, 4), (stage.Users(), stage.Device.Held, stage.Ring.InFlight));
        Assert.Equal((1L, 0L), (stage.Ring.Counters.Bounced, stage.Ring.Counters.Reissued));

        // One that looks again and again finds none either, and holds nothing.
        stage.Device.Finish(1);
        stage.Stage.Submit();
        Assert.Equal(1, stage.Users());
        RingCompletion[] completions = stage.Stage.Drain();
        Assert.Equal([1UL, 2, 3, 4], completions.Select(static c => c.UserData).Order().ToArray());
        Assert.All(completions, static c => Assert.Equal((Errno.Ok, c.UserData == 4 ? BounceReason.None : BounceReason.Unaligned), (c.Status, c.Bounce)));
        Assert.True(stage.Buffer(1, 2 * Piece).SequenceEqual(stage.Store(0, 2 * Piece)));
        Assert.True(stage.Buffer(65537, 512).SequenceEqual(stage.Store(4096, 512)));
        Assert.True(stage.Buffer(131073, Piece).SequenceEqual(stage.Store(65536, Piece)));
        Assert.Equal(((3 * Piece) + 512L, 3L), (stage.Copied, stage.Ring.Counters.Bounced));
        stage.AssertQuiet();
    }

    [Theory]
    [InlineData(BounceReason.None)]
    [InlineData(BounceReason.NotMappable)]
    public void T16_a_request_for_which_the_file_has_no_room_gives_reference_and_piece_back_and_comes_again(BounceReason whole)
    {
        using var stage = new BounceStage(whole, ring: BounceStage.Options with { BouncePoolSize = Piece });
        stage.Device.QueueDepth = 0;
        stage.Stage.Write(Piece, 1, 0, 1);
        stage.Stage.Submit();
        Assert.Equal((0L, 1, 0L), (stage.Users(), stage.Ring.InFlight, stage.Ring.Counters.Bounced));
        stage.Stage.Move();
        stage.Device.QueueDepth = 1;
        Assert.Equal(Errno.Ok, Assert.Single(stage.Stage.Drain()).Status);
        Assert.True(stage.Buffer(1, Piece).SequenceEqual(stage.Store(0, Piece)));
        Assert.Equal((2L * Piece, 1L), (stage.Copied, stage.Ring.Counters.Bounced));
        Assert.Equal(2, stage.BounceToken.MapsMade);
        stage.AssertQuiet();
    }

    [Fact]
    public void R4_a_file_that_throws_in_a_bounced_request_ends_it_with_EIO_and_keeps_nothing()
    {
        using var stage = new BounceStage(register: false);
        var file = new ThrowingFile();
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Stage.Exporter.Buffer, File = file });
        for (int i = 0; i < 20; i++)
        {
            file.ThrowAt = i % 3;
            Assert.True(stage.Ring.TryWriteFixed(file, 0, 1, 3 * Piece, 0, 1));
            Assert.Equal([new RingCompletion(1, Errno.EIO, file.ThrowAt * Piece) { Bounce = BounceReason.NotMappable }], stage.Stage.Run());
        }

        stage.AssertQuiet();
        stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
        Assert.True(stage.Stage.Exporter.Buffer.References == 1);
        stage.Ring.Dispose();
        file.Put();
        Assert.True(file.IsClosed);
    }

    private static byte[] Bytes(BounceStage stage, BufferRange[] ranges)
    {
        var bytes = new List<byte>();
        foreach (BufferRange range in ranges)
            bytes.AddRange(stage.Buffer(range.Offset, (int)range.Length));
        return [.. bytes];
    }

    /// <summary>A file without a token operation that writes at once, and throws at the piece it is told to.</summary>
    private sealed class ThrowingFile() : IoFile("throwing", OpenFlags.Direct)
    {
        internal int ThrowAt { get; set; }

        public override long Size => 1 << 20;

        public override FileQueue OpenQueue(IoContext context, BioPool bios, int depth) => new Queue(this);

        private sealed class Queue(ThrowingFile file) : FileQueue
        {
            public override Errno ReadIter(ref IoRequest request, ref IovIter iter) => throw new InvalidOperationException("not read");

            public override Errno WriteIter(ref IoRequest request, ref IovIter iter)
            {
                if (request.FileOffset == file.ThrowAt * Piece)
                    throw new InvalidOperationException("as the test wants it");
                request.Transferred += iter.Count;
                request.FileOffset += iter.Count;
                iter.Advance(iter.Count);
                return Errno.Ok;
            }

            public override Errno Fsync(ref IoRequest request) => Errno.Ok;

            public override void Commit()
            {
            }

            public override int Poll(int max) => 0;

            public override void Dispose()
            {
            }
        }
    }
}
