// Results are looked at when they are there.
#pragma warning disable xUnit1031
using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Iov;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tests.House;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>
/// The policy of a registration: direct or a clear refusal, or through the bounce pool and said so. Alone, because the bytes that the CPU copies are counted for the whole process.
/// </summary>
[Collection(nameof(AllocationTests))]
public sealed class BounceTests
{
    private const int Piece = BounceStage.Piece;

    public static TheoryData<InvalidationDesign, bool> DesignsAndDirections => new()
    {
        { InvalidationDesign.Draining, false },
        { InvalidationDesign.Draining, true },
        { InvalidationDesign.Fenced, false },
        { InvalidationDesign.Fenced, true },
    };

    [Theory]
    [InlineData(Errno.EOPNOTSUPP)]
    [InlineData(Errno.EREMOTEIO)]
    public void Under_Direct_a_registration_or_a_map_that_is_refused_stays_refused_and_nothing_is_copied(Errno status)
    {
        using var stage = new BounceStage(BounceReason.None, ring: BounceStage.Options with { TransferPolicy = TransferPolicy.Direct }, register: false);
        stage.Device.FailSetup = () => BounceStage.Refusal(status);
        Assert.Equal(status, StageVerbs.Refusal(() => stage.Register()));
        stage.Device.FailSetup = null;
        stage.Register();
        stage.Device.FailMap = () => BounceStage.Refusal(status);
        Assert.Equal(new RingCompletion(1, status, 0), stage.Stage.ReadOnce(512, 0, 0));
        stage.Device.FailMap = null;
        Assert.Equal(new RingCompletion(1, Errno.EINVAL, 0), stage.Stage.ReadOnce(512, 2, 0));
        Assert.Null(stage.Ring.BounceTokenAt(0));
        Assert.Null(stage.Ring.DirectRefusalAt(0));
        Assert.Equal((0L, 0L, 0L), (stage.Copied, stage.Ring.Counters.Bounced, stage.Ring.Counters.BouncedBytes));
    }

    [Fact]
    public void Direct_is_the_default_and_a_registrations_own_policy_goes_before_the_rings()
    {
        Assert.Equal(TransferPolicy.Direct, new RingOptions().TransferPolicy);
        using var stage = new BounceStage(register: false);
        Assert.Equal(Errno.EOPNOTSUPP, StageVerbs.Refusal(() => stage.Register(policy: TransferPolicy.Direct)));
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => stage.Register(policy: (TransferPolicy)7)));
        using var direct = new BounceStage(ring: BounceStage.Options with { TransferPolicy = TransferPolicy.Direct }, register: false);
        direct.Register(policy: TransferPolicy.AllowBounce);
        Assert.Equal(BounceReason.NotMappable, direct.Stage.ReadOnce(512, 0, 0).Bounce);
    }

    [Theory]
    [InlineData(BounceReason.NotMappable, Errno.EOPNOTSUPP)]
    [InlineData(BounceReason.NoPeerToPeer, Errno.EREMOTEIO)]
    public void T1_a_registration_that_is_refused_is_bounced_as_a_whole_and_each_completion_says_why(BounceReason reason, Errno refusal)
    {
        using var stage = new BounceStage(reason);
        Assert.Null(stage.Ring.TokenAt(0));
        Assert.Equal(refusal, stage.Ring.DirectRefusalAt(0)!.Errno);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 1024) { Bounce = reason }, stage.Stage.ReadOnce(1024, 4097, 512));
        Assert.True(stage.Buffer(4097, 1024).SequenceEqual(stage.Store(512, 1024)), "the read's bytes are not in the buffer");
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512) { Bounce = reason }, stage.Stage.WriteOnce(512, 8192, 8192));
        Assert.True(stage.Buffer(8192, 512).SequenceEqual(stage.Store(8192, 512)), "the write's bytes are not on the device");
        Assert.Equal((1536L, 2L, 1536L, 1536L), (stage.Copied, stage.Ring.Counters.Bounced, stage.Ring.Counters.BouncedBytes, stage.Ring.Counters.Bytes));
        Assert.Equal((1L, 0), (stage.BounceToken.MapsMade, stage.Device.LiveMaps));
        stage.AssertQuiet();
    }

    [Theory]
    [InlineData(Errno.EOPNOTSUPP, BounceReason.NotMappable)]
    [InlineData(Errno.EREMOTEIO, BounceReason.NoPeerToPeer)]
    public void T12_a_map_that_is_refused_is_not_asked_for_again_before_the_buffer_has_moved(Errno refusal, BounceReason reason)
    {
        using var stage = new BounceStage(BounceReason.None);
        int asked = 0;
        stage.Device.InMap = () => asked++;
        stage.Device.FailMap = () => BounceStage.Refusal(refusal);
        for (int i = 0; i < 3; i++)
            Assert.Equal(new RingCompletion(1, Errno.Ok, 512) { Bounce = reason }, stage.Stage.ReadOnce(512, 512, 512));
        Assert.Equal((1, refusal), (asked, stage.Ring.DirectRefusalAt(0)!.Errno));
        stage.Stage.Move();
        Assert.Null(stage.Ring.DirectRefusalAt(0));
        Assert.Equal(reason, stage.Stage.WriteOnce(512, 0, 0).Bounce);
        Assert.Equal(2, asked);
        stage.Device.FailMap = null;
        stage.Stage.Move();
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.Stage.ReadOnce(512, 0, 0));
        Assert.Equal(4 * 512, stage.Copied);
    }

    [Fact]
    public void B3_a_request_whose_memory_alone_is_unaligned_is_bounced_by_itself_and_its_neighbours_go_direct()
    {
        using var stage = new BounceStage(BounceReason.None);
        var backings = new List<BioBacking>();
        stage.Device.OnSubmit = bio => backings.Add(bio.Backing);
        for (int round = 0; round < 2; round++)
        {
            // The first round finds no map, the second a live one.
            for (ulong i = 0; i < 6; i++)
                stage.Stage.Read(512, ((long)i * 1024) + (i % 3 == 1 ? 2 : 0), (long)i * 512, i);
            RingCompletion[] completions = stage.Stage.Run();
            Assert.All(completions, static c => Assert.Equal((Errno.Ok, 512L, c.UserData % 3 == 1 ? BounceReason.Unaligned : BounceReason.None), (c.Status, c.Bytes, c.Bounce)));
            Assert.Equal([0UL, 1, 2, 3, 4, 5], completions.Select(static c => c.UserData).Order().ToArray());
            for (int i = 0; i < 6; i++)
                Assert.True(stage.Buffer((i * 1024) + (i % 3 == 1 ? 2 : 0), 512).SequenceEqual(stage.Store(i * 512, 512)), $"read {i} has other bytes");
        }

        Assert.Equal((8, 4), (backings.Count(static b => b == BioBacking.Map), backings.Count(static b => b == BioBacking.Pages)));
        Assert.Equal((4 * 512L, 4L), (stage.Copied, stage.Ring.Counters.Bounced));
        Assert.Equal((1L, 1L), (stage.Stage.Token.MapsMade, stage.BounceToken.MapsMade));
        Assert.Equal(BounceReason.Unaligned, stage.Stage.WriteOnce(512, 3, 4096).Bounce);
        Assert.True(stage.Buffer(3, 512).SequenceEqual(stage.Store(4096, 512)));
        stage.AssertQuiet();
    }

    [Theory]
    [InlineData(2, 512, 511, Errno.EINVAL)]
    [InlineData(2, 511, 512, Errno.EINVAL)]
    [InlineData(2, 512, -512, Errno.EINVAL)]
    [InlineData(0, 512, 511, Errno.EINVAL)]
    [InlineData(Stage.BufferSize - 2, 512, 0, Errno.EFAULT)]
    [InlineData(-2, 512, 0, Errno.EFAULT)]
    [InlineData(2, 0, 3, Errno.Ok)]
    public void R2_what_a_copy_does_not_cure_stays_an_error_whether_the_registration_is_direct_or_not(long offset, long length, long fileOffset, Errno expected)
    {
        foreach (BounceReason whole in new[] { BounceReason.None, BounceReason.NotMappable })
        {
            using var stage = new BounceStage(whole);
            Assert.Equal(new RingCompletion(1, expected, 0), stage.Stage.ReadOnce(length, offset, fileOffset));
            Assert.Equal(new RingCompletion(1, expected, 0), stage.Stage.WriteOnce(length, offset, fileOffset));
            Assert.Equal((0L, 0L), (stage.Copied, stage.Ring.Counters.Bounced));
            stage.AssertQuiet();
        }
    }

    [Fact]
    public void R2_a_long_request_that_the_file_would_refuse_moves_nothing_of_itself_before()
    {
        using var stage = new BounceStage();
        byte[] store = stage.Device.Store.ToArray();
        Assert.Equal(new RingCompletion(1, Errno.EINVAL, 0), stage.Stage.WriteOnce((3 * Piece) + 100, 0, 0));
        Assert.True(stage.Device.Store.SequenceEqual(store));
        Assert.Equal(0, stage.Copied);
    }

    [Fact]
    public void T1_T11_B5_rights_a_map_without_memory_buffered_files_and_lost_devices_are_not_cured()
    {
        using var stage = new BounceStage(BounceReason.None);
        stage.Device.FailMap = static () => BounceStage.Refusal(Errno.ENOMEM);
        Assert.Equal(new RingCompletion(1, Errno.ENOMEM, 0), stage.Stage.ReadOnce(512, 2, 0));
        stage.Device.FailMap = null;
        stage.Stage.File.SetDirect(false);
        Assert.Equal(new RingCompletion(1, Errno.EINVAL, 0), stage.Stage.ReadOnce(512, 2, 0));
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => stage.Register()));
        stage.Stage.File.SetDirect(true);
        stage.Device.TakesTokens = false;
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Stage.Exporter.Buffer, File = stage.Stage.File, Direction = DmaDirection.FromDevice });
        Assert.True(stage.Ring.TryWriteFixed(stage.Stage.File, 1, 0, 512, 0, 1));
        Assert.Equal([new RingCompletion(1, Errno.EACCES, 0)], stage.Stage.Run());
        Assert.Equal(0, stage.Copied);
        stage.Device.Device.MarkRemoved();
        Assert.Equal(Errno.ENODEV, StageVerbs.Refusal(() => stage.Register()));
        Assert.True(stage.Ring.TryReadFixed(stage.Stage.File, 1, 0, 512, 0, 1));
        Assert.Equal([new RingCompletion(1, Errno.ENODEV, 0) { Bounce = BounceReason.NotMappable }], stage.Stage.Run());
        Assert.Equal(0, stage.Copied);
    }

    [Fact]
    public void F7_a_buffer_whose_memory_nobody_names_is_refused_with_both_reasons_and_nothing_is_left_behind()
    {
        using var stage = new BounceStage(register: false);
        using var hidden = new PieceExporter(4096, 4096) { Hidden = true };
        var registration = new BufferRegistration { Buffer = hidden.Buffer, File = stage.Stage.File };
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => stage.Ring.RegisterBuffer(0, registration));
        Assert.Equal(Errno.EOPNOTSUPP, refused.Errno);
        Assert.Contains("no token operation", refused.Problem, StringComparison.Ordinal);
        Assert.Contains("DeviceMemory", refused.Problem, StringComparison.Ordinal);
        hidden.Hidden = false;
        hidden.Short = true;
        Assert.Contains("names 4096 of its 8192 bytes", Assert.Throws<DmaBufIoException>(() => stage.Ring.RegisterBuffer(0, registration)).Problem, StringComparison.Ordinal);
        Assert.Equal((1, 1, 0), (hidden.Buffer.References, stage.Stage.File.References, hidden.Buffer.Attachments));

        // Direct, and where the device is asked for more than it can, its own answer stays.
        hidden.Hidden = true;
        stage.Device.TakesTokens = true;
        stage.Ring.RegisterBuffer(0, registration);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.Stage.ReadOnce(512, 4, 0));
        Assert.Equal(new RingCompletion(1, Errno.EINVAL, 0), stage.Stage.ReadOnce(512, 2, 0));
        Assert.Equal(Errno.EOPNOTSUPP, stage.BounceToken.LastMapError!.Errno);
        stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
        Assert.Equal((1, 0), (hidden.Buffer.References, hidden.Buffer.Attachments));
    }

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

    [Theory]
    [MemberData(nameof(DesignsAndDirections))]
    public void F7_T14_a_buffer_moves_only_when_bounced_requests_in_flight_have_copied_and_their_data_is_in_the_new_place(InvalidationDesign design, bool write)
    {
        using var stage = new BounceStage(design: design);
        byte[] expected = (write ? stage.Buffer(5, 3 * Piece) : stage.Store(0, 3 * Piece)).ToArray();
        stage.Device.Hold = true;
        if (write)
            stage.Stage.Write(3 * Piece, 5, 0);
        else
            stage.Stage.Read(3 * Piece, 5, 0);
        stage.Stage.Submit();
        Actor mover = Actor.Start("mover", () => stage.Stage.Exporter.Move());
        mover.UntilItWaitsFor(design == InvalidationDesign.Draining ? "drain of map" : "fence");
        Assert.Equal(0, stage.Stage.Exporter.Moves);
        stage.Device.Finish();
        Actor.Until(() => stage.Device.Held == 1, "the mover has reaped the first piece and given the device the second");
        Assert.Equal(0, stage.Stage.Exporter.Moves);

        // The owner does nothing: the mover copies, issues the rest, and goes on.
        Actor.Until(() => stage.Device.Finish() >= 0 && mover.IsDone, "the mover has ended");
        mover.Join();
        Assert.True((write ? stage.Store(0, 3 * Piece) : stage.Buffer(5, 3 * Piece)).SequenceEqual(expected), "the data is not where it belongs");
        Assert.Equal([new RingCompletion(1, Errno.Ok, 3 * Piece) { Bounce = BounceReason.NotMappable }], stage.Stage.Reap(1));
        Assert.Equal((1L, 3L * Piece), (stage.Stage.Exporter.Moves, stage.Copied));
        stage.Device.Hold = false;
        Assert.Equal(3 * Piece, stage.Stage.ReadOnce(3 * Piece, 5, 0).Bytes);
        Assert.Equal(2, stage.BounceToken.MapsMade);
    }

    [Fact]
    public void T18_the_reference_goes_after_the_copy_and_before_the_completion()
    {
        using var stage = new BounceStage(design: InvalidationDesign.Fenced);
        stage.Device.Hold = true;
        stage.Stage.Read(512, 9, 0);
        stage.Stage.Submit();
        stage.Stage.Invalidate();
        DmaFence fence = Assert.Single(stage.Stage.Exporter.Buffer.Reservation.Unsignaled(FenceUsage.Bookkeep));
        bool copied = false;
        fence.OnSignal(() => copied = stage.Buffer(9, 512).SequenceEqual(stage.Store(0, 512)));
        stage.Device.Finish();
        stage.Ring.Context.ReapAsVisitor();
        Assert.Equal((true, true, 512L), (fence.IsSignaled, copied, stage.Copied));
        stage.Stage.Reap(1);
    }

    [Fact]
    public void F7_a_place_that_the_exporter_gave_up_without_waiting_is_not_touched_and_the_request_ends_with_EIO()
    {
        using var stage = new BounceStage(register: false);
        using var pieces = new PieceExporter(8192);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = pieces.Buffer, File = stage.Stage.File });
        stage.Device.Hold = true;
        stage.Stage.Read(512, 0, 0);
        stage.Stage.Submit();
        pieces.Regions[0].MarkDead();
        Assert.Equal([new RingCompletion(1, Errno.EIO, 0) { Bounce = BounceReason.NotMappable }], stage.Stage.Drain());
        Assert.Equal(0, stage.Copied);
        stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
    }

    [Fact]
    public void R6_removing_with_bounced_requests_in_flight_and_parked_lets_them_end_and_the_tag_comes_last()
    {
        using var stage = new BounceStage(register: false, ring: BounceStage.Options with { BouncePoolSize = Piece });
        stage.Register(tag: 900);
        stage.Device.Hold = true;
        stage.Stage.Read(2 * Piece, 1, 0, 1);
        stage.Stage.Read(512, 65537, 0, 2);
        stage.Stage.Submit();
        RemovedBuffer removed = stage.Ring.RemoveBuffer(0);
        Assert.Null(removed.Token);
        Assert.False(removed.IsReleased);
        stage.Stage.Read(512, 1, 0, 3);
        stage.Stage.Submit();
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal([3UL, 1, 2, 900], stage.Stage.Reap(4).Select(static c => c.UserData));
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken));
        Assert.True(removed.IsReleased && removed.BounceToken!.IsReleased);
        Assert.Equal((1, 0), (stage.Stage.Exporter.Buffer.References, stage.Stage.Exporter.Buffer.Attachments));
        Assert.True(stage.Buffer(1, 2 * Piece).SequenceEqual(stage.Store(0, 2 * Piece)));
    }

    [Theory]
    [InlineData(BufferMapping.Premapped)]
    [InlineData(BufferMapping.PerRequest)]
    public void T14_who_waits_for_a_removed_registration_reaps_its_bounced_requests_too(BufferMapping mapping)
    {
        using var stage = new Stage(register: false);
        using var memory = DmaBufIo.Memory.MemoryRegion.Allocate("own", 1 << 16);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Memory = memory, File = stage.File, Policy = TransferPolicy.AllowBounce, Mapping = mapping });
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 2, 512, 0, 1)); // unaligned
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 4096, 512, 0, 2));
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        RemovedBuffer removed = stage.Ring.RemoveBuffer(1);
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken)); // nobody else reaps
        Assert.All(stage.Reap(2), static c => Assert.Equal((Errno.Ok, 512), (c.Status, c.Bytes)));
    }

    [Fact]
    public void R6_a_slot_goes_from_bounced_to_direct_and_back_while_requests_run_and_a_failed_replacement_leaves_it()
    {
        using var stage = new BounceStage();
        stage.Device.Hold = true;
        stage.Stage.Read(2 * Piece, 1, 0, 1);
        stage.Stage.Submit();
        stage.Device.TakesTokens = true;
        stage.Device.FailSetup = static () => BounceStage.Refusal(Errno.ENOMEM);
        Assert.Equal(Errno.ENOMEM, StageVerbs.Refusal(() => stage.Register()));
        Assert.NotNull(stage.BounceToken);
        stage.Device.FailSetup = null;
        stage.Register();
        stage.Stage.Read(512, 65536, 0, 2);
        stage.Stage.Submit();
        stage.Register(policy: TransferPolicy.Direct);
        Assert.Null(stage.Ring.BounceTokenAt(0));
        RingCompletion[] completions = [.. stage.Stage.Drain().OrderBy(static c => c.UserData)];
        Assert.Equal([new RingCompletion(1, Errno.Ok, 2 * Piece) { Bounce = BounceReason.NotMappable }, new RingCompletion(2, Errno.Ok, 512)], completions);
        Assert.True(stage.Buffer(1, 2 * Piece).SequenceEqual(stage.Store(0, 2 * Piece)));
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => stage.Stage.Exporter.Buffer.References == 2 && stage.Device.LiveTokens == 1));
    }

    [Fact]
    public void R6_closing_the_ring_ends_bounced_requests_and_leaks_nothing()
    {
        using var stage = new BounceStage(register: false);
        var ring = new Ring(BounceStage.Options with { Name = "closing", BouncePoolSize = Piece });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Stage.Exporter.Buffer, File = stage.Stage.File });
        stage.Device.Hold = true;
        for (ulong i = 0; i < 3; i++)
            Assert.True(ring.TryReadFixed(stage.Stage.File, 0, 1 + ((long)i * 65536), 2 * Piece, 0, i));
        ring.Submit(TestContext.Current.CancellationToken);
        Actor closer = Actor.Start("closer", ring.Dispose);
        Actor.Until(() => stage.Device.Finish() >= 0 && closer.IsDone, "the ring is closed");
        closer.Join();
        for (int i = 0; i < 3; i++)
            Assert.True(stage.Buffer(1 + (i * 65536), 2 * Piece).SequenceEqual(stage.Store(0, 2 * Piece)));
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => (stage.Stage.File.References, stage.Stage.Exporter.Buffer.References) == (1, 1)));
        Assert.Equal(0, stage.Stage.Exporter.Buffer.Attachments);
    }

    [Fact]
    public void T7_a_ring_that_may_not_wait_answers_EAGAIN_until_somebody_has_made_the_CPUs_map()
    {
        using var stage = new BounceStage(ring: BounceStage.Options with { NoWait = true });
        Assert.Equal(new RingCompletion(1, Errno.EAGAIN, 0), stage.Stage.ReadOnce(512, 1, 0));
        using (var other = new IoContext("other"))
        {
            Assert.Equal(Errno.Ok, stage.BounceToken.GetMap(other, out DmaMap? map, TestContext.Current.CancellationToken));
            DmaBufToken.Drop(map!, other);
            other.Leave();
        }

        Assert.Equal(new RingCompletion(1, Errno.Ok, 512) { Bounce = BounceReason.NotMappable }, stage.Stage.ReadOnce(512, 1, 0));
        stage.AssertQuiet();
    }

    [Fact]
    public void Awaited_requests_tell_the_reason_and_end_with_EINTR_while_they_wait_for_a_piece()
    {
        using var stage = new BounceStage(ring: BounceStage.Options with { BouncePoolSize = Piece });
        using var cancel = new CancellationTokenSource();
        stage.Device.Hold = true;
        Task<IoStatus> first = stage.Ring.ReadFixedAsync(stage.Stage.File, 0, 1, Piece, 0, TestContext.Current.CancellationToken).AsTask();
        Task<IoStatus> parked = stage.Ring.WriteFixedAsync(stage.Stage.File, 0, 8193, Piece, 8192, cancel.Token).AsTask();
        stage.Stage.Submit();
        cancel.Cancel();
        stage.Stage.Drive(parked);
        Assert.Equal((Errno.EINTR, BounceReason.None, false), (parked.Result.Status, parked.Result.Bounce, first.IsCompleted));
        stage.Device.Hold = false;
        stage.Device.Finish();
        stage.Stage.Drive(first);
        Assert.Equal(new IoStatus(Errno.Ok, Piece) { Bounce = BounceReason.NotMappable }, first.Result);
        Assert.Equal((Piece, 1L), (stage.Copied, stage.Ring.Counters.Bounced));
        stage.AssertQuiet();
    }

    [Fact]
    public async Task A_ring_with_a_driver_thread_bounces_for_many_at_once()
    {
        using var stage = new BounceStage(ring: BounceStage.Options with { DriverThread = true, BouncePoolSize = 2 * Piece });
        Task<IoStatus>[] reads =
        [
            .. Enumerable.Range(0, 16).Select(i => stage.Ring.ReadFixedAsync(stage.Stage.File, 0, (i * 65536) + 3, 3 * Piece, i * 512, TestContext.Current.CancellationToken).AsTask()),
        ];
        Assert.All(await Task.WhenAll(reads), static r => Assert.Equal(new IoStatus(Errno.Ok, 3 * Piece) { Bounce = BounceReason.NotMappable }, r));
        for (int i = 0; i < 16; i++)
            Assert.True(stage.Buffer((i * 65536) + 3, 3 * Piece).SequenceEqual(stage.Store(i * 512, 3 * Piece)));
    }

    [Fact]
    public void T15_the_wait_for_the_CPUs_map_leaves_the_context_so_that_others_may_reap_it_and_can_be_interrupted()
    {
        using var stage = new BounceStage(BounceReason.None);
        Assert.Equal(Errno.Ok, stage.Stage.ReadOnce(512, 0, 0).Status);
        using var cancel = new CancellationTokenSource();
        stage.Device.Hold = true;
        stage.Stage.Read(512, 0, 0, 1);
        stage.Stage.Read(512, 4098, 512, 2);
        stage.Stage.Read(512, 8192, 1024, 3);
        Actor owner;
        using (ReservationGuard guard = stage.Stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            owner = Actor.Start("owner", () => stage.Ring.Submit(cancel.Token));
            owner.UntilItWaitsFor("b0");
            Assert.Equal(2, stage.Device.Held);
            stage.Device.Finish();
            Assert.Equal(2, stage.Stage.Exporter.Buffer.InvalidateMappings(guard.Held).Users);
            cancel.Cancel();
            owner.Join();
        }

        IEnumerable<(ulong, Errno)> ended = stage.Stage.Reap(3).Select(static c => (c.UserData, c.Status)).Order();
        Assert.Equal([(1UL, Errno.Ok), (2UL, Errno.EINTR), (3UL, Errno.Ok)], ended.ToArray());
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

    [Fact]
    public void A_registration_mapped_per_request_bounces_what_its_pages_cannot_do()
    {
        using var stage = new BounceStage(register: false);
        stage.Register(mapping: BufferMapping.PerRequest); // the buffer moves
        Assert.Equal(BounceReason.NotMappable, stage.Stage.ReadOnce(512, 0, 0).Bounce);
        using var pieces = new PieceExporter(4096, 8192);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = pieces.Buffer, File = stage.Stage.File, Mapping = BufferMapping.PerRequest });
        Assert.Equal(BufferMapping.PerRequest, stage.Ring.MappingAt(0));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 1024), stage.Stage.ReadOnce(1024, 3072 + 512, 0));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 1024) { Bounce = BounceReason.Unaligned }, stage.Stage.ReadOnce(1024, 3072 + 516, 512));
        Assert.True(pieces.Contents.AsSpan(3072 + 516, 1024).SequenceEqual(stage.Store(512, 1024)));
        RemovedBuffer removed = stage.Ring.RemoveBuffer(0);
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken));
        Assert.True(removed.IsReleased);
        Assert.Equal(1, pieces.Buffer.References);
    }

    [Fact]
    public void The_pool_is_whole_pages_within_its_bounds_and_a_piece_holds_a_block()
    {
        foreach (long wrong in new[] { 0L, -4096, 4095, 6000, (1L << 30) + 4096 })
            Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => _ = new RingOptions { BouncePoolSize = wrong }));
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(static () => _ = new RingOptions { TransferPolicy = (TransferPolicy)5 }));
        using var stage = new Stage(ring: BounceStage.Options with { BouncePoolSize = 15 * Piece }, limits: new QueueLimits(8192), register: false);
        stage.Device.TakesTokens = false;
        var registration = new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File };
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => stage.Ring.RegisterBuffer(0, registration));
        Assert.Equal(Errno.EINVAL, refused.Errno);
        Assert.Contains("8192", refused.Problem, StringComparison.Ordinal);
        Assert.Contains("BouncePoolSize", refused.Remedy, StringComparison.Ordinal);

        // Pieces of three pages hold one block of two.
        using var ring = new Ring(BounceStage.Options with { Name = "odd", BouncePoolSize = 24 * Piece });
        ring.RegisterBuffer(0, registration);
        new Random(5).NextBytes(stage.Device.Store);
        int bios = 0;
        stage.Device.OnSubmit = bio => bios += bio.Size == 8192 ? 1 : 100;
        Assert.True(ring.TryReadFixed(stage.File, 0, 1, 3 * 8192, 0, 1));
        ring.Submit(TestContext.Current.CancellationToken);
        var completions = new RingCompletion[1];
        ring.Reap(completions, 1, TestContext.Current.CancellationToken);
        Assert.Equal((3L * 8192, 3), (completions[0].Bytes, bios));
        Assert.True(stage.Exporter.Region.Span(1, 3 * 8192).SequenceEqual(stage.Device.Store[..(3 * 8192)]));
    }

    [Fact]
    public void A_completion_tells_its_reason_without_growing_and_direct_ones_are_equal_and_printed_as_ever()
    {
        Assert.Equal((24, 16), (System.Runtime.CompilerServices.Unsafe.SizeOf<RingCompletion>(), System.Runtime.CompilerServices.Unsafe.SizeOf<IoStatus>()));
        var direct = new RingCompletion(7, Errno.EIO, 512);
        RingCompletion bounced = direct with { Bounce = BounceReason.Unaligned };
        Assert.NotEqual(direct, bounced);
        Assert.Equal((Errno.EIO, BounceReason.Unaligned, BounceReason.None), (bounced.Status, bounced.Bounce, direct.Bounce));
        Assert.Equal((Errno.Ok, BounceReason.Unaligned), ((bounced with { Status = Errno.Ok }).Status, (bounced with { Status = Errno.Ok }).Bounce));
        Assert.Equal("RingCompletion { UserData = 7, Status = EIO, Bytes = 512 }", direct.ToString());
        Assert.Equal("RingCompletion { UserData = 7, Status = EIO, Bytes = 512, Bounce = Unaligned }", bounced.ToString());
        Assert.Equal("IoStatus { Status = Ok, Bytes = 1 }", new IoStatus(Errno.Ok, 1).ToString());
        Assert.Equal("IoStatus { Status = Ok, Bytes = 1, Bounce = NoPeerToPeer }", (new IoStatus(Errno.Ok, 1) { Bounce = BounceReason.NoPeerToPeer }).ToString());
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
