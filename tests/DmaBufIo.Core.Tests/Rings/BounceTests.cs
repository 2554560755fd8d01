using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Rings;
using DmaBufIo.Tests.House;

namespace DmaBufIo.Tests.Rings;

/// <summary>The policy of a registration: direct or a clear refusal, or through the bounce pool and said so. Alone, because the bytes that the CPU copies are counted for the whole process.</summary>
[Collection(nameof(AllocationTests))]
public sealed class BounceTests
{
    private const int Piece = BounceStage.Piece;

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
}
