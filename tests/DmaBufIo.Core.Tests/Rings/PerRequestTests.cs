using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Rings;
using DmaBufIo.Tests.Block;

namespace DmaBufIo.Tests.Rings;

/// <summary>Registrations that are mapped per request: the same checks and rights, pages in place of a map.</summary>
public sealed class PerRequestTests : IDisposable
{
    private const int Size = 65536;
    private readonly MemoryRegion _memory = MemoryRegion.Allocate("own", Size);
    private readonly LoggedDevice _device = new(new QueueLimits(512));
    private readonly BlockDeviceFile _file;
    private readonly Ring _ring = new(new RingOptions { Name = "ring", Entries = 8, Bios = 16 });

    public PerRequestTests() => _file = new BlockDeviceFile(_device);

    public void Dispose()
    {
        _ring.Dispose();
        _file.Put();
        Assert.Equal(0, _file.References);
        _memory.Dispose();
    }

    [Fact]
    public void B1_no_token_is_made_and_each_request_is_one_bio_backed_by_the_pages_of_its_range()
    {
        Register();
        Assert.Null(_ring.TokenAt(0));
        Assert.Equal(BufferMapping.PerRequest, _ring.MappingAt(0));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), Read(4096, 1024, 8192));
        Assert.Equal(new RingCompletion(2, Errno.Ok, 512), Write(512, Size - 512, 0));
        Assert.Equal(
            [(BioOperation.Read, 1024L, 4096L, 16L), (BioOperation.Write, Size - 512L, 512L, 0L)],
            _device.Seen.Select(static s => (s.Bio.Operation, s.Bio.Offset, s.Bio.Size, s.Bio.Sector)));
        Assert.All(_device.Seen, s => Assert.Equal((BioBacking.Pages, null, _memory), (s.Bio.Backing, s.Map, s.Region)));
    }

    [Fact]
    public void I6_a_vector_is_one_bio_per_range()
    {
        Register();
        BufferRange[] ranges = [new(8192, 1024), new(0, 0), new(4, 512), new(32768, 2048)];
        Assert.True(_ring.TryReadFixedVector(_file, 0, ranges, 512, 3));
        Assert.Equal(new RingCompletion(3, Errno.Ok, 3584), One());
        Assert.Equal(
            [(8192L, 1024L, 1L), (4L, 512L, 3L), (32768L, 2048L, 4L)], _device.Seen.Select(static s => (s.Bio.Offset, s.Bio.Size, s.Bio.Sector)));
    }

    [Fact]
    public void B3_a_request_is_split_where_the_device_and_the_pieces_of_the_memory_ask_for_it()
    {
        using var pieces = new PieceExporter(8192, 4096, 4096);
        Register(pieces.Buffer);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 12288), Read(12288, 4096, 0));
        Assert.Equal(
            [(pieces.Regions[0], 4096L, 4096L), (pieces.Regions[1], 0L, 4096L), (pieces.Regions[2], 0L, 4096L)],
            _device.Seen.Select(static s => (s.Region!, s.Bio.Offset, s.Bio.Size)));

        // Not whole blocks on both sides of the joint: each piece would be a transfer of its own.
        Assert.Equal(new RingCompletion(1, Errno.EINVAL, 0), Read(4096, 4100, 0));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 1024), Read(1024, 4100, 0));
    }

    [Theory]
    [InlineData(0, Size + 512, 0, Errno.EFAULT)]
    [InlineData(Size, 512, 0, Errno.EFAULT)]
    [InlineData(-512, 1024, 0, Errno.EFAULT)]
    [InlineData(512, long.MaxValue & -512, 0, Errno.EFAULT)]
    [InlineData(2, 512, 0, Errno.EINVAL)]
    [InlineData(0, 511, 0, Errno.EINVAL)]
    [InlineData(0, 512, 511, Errno.EINVAL)]
    [InlineData(0, 512, -512, Errno.EINVAL)]
    [InlineData(2, 0, 3, Errno.Ok)]
    public void R2_ranges_and_alignment_are_checked_as_for_a_premapped_buffer(long offset, long length, long fileOffset, Errno expected)
    {
        Register();
        Assert.Equal(new RingCompletion(1, expected, 0), Read(length, offset, fileOffset));
        using var stage = new Stage(register: false);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Memory = _memory, File = stage.File });
        Assert.Equal(new RingCompletion(1, expected, 0), stage.ReadOnce(length, offset, fileOffset));
        stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
    }

    [Fact]
    public void R3_T1_another_file_is_EBADF_and_the_direction_that_was_not_registered_EACCES()
    {
        Register(direction: DmaDirection.FromDevice);
        Assert.Equal(Errno.Ok, Read(512, 0, 0).Status);
        Assert.Equal(Errno.EACCES, Write(512, 0, 0).Status);
        var other = new BlockDeviceFile(_device);
        _ring.AddFile(other);
        Assert.True(_ring.TryReadFixed(other, 0, 0, 512, 0, 1));
        Assert.Equal(Errno.EBADF, One().Status);
        Assert.True(_ring.TryReadFixed(other, 0, 0, Size + 512, 0, 1));
        Assert.Equal(Errno.EFAULT, One().Status);
        other.Put();
    }

    [Fact]
    public void B5_buffered_files_are_refused_at_registration_and_at_every_request()
    {
        Register();
        _file.SetDirect(false);
        Assert.Equal(Errno.EINVAL, Read(512, 0, 0).Status);
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => Register()));
    }

    [Fact]
    public void R1_a_buffer_that_moves_or_does_not_say_what_it_is_made_of_is_refused_with_the_reason()
    {
        using var stage = new Stage(register: false);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => Register(stage.Exporter.Buffer));
        Assert.Equal(Errno.EOPNOTSUPP, refused.Errno);
        Assert.Contains("may move", refused.Problem, StringComparison.Ordinal);
        using var hidden = new PieceExporter(4096) { Hidden = true };
        refused = Assert.Throws<DmaBufIoException>(() => Register(hidden.Buffer));
        Assert.Equal(Errno.EOPNOTSUPP, refused.Errno);
        Assert.Contains("DeviceMemory", refused.Problem, StringComparison.Ordinal);
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => Register(direction: DmaDirection.None)));
        Assert.Null(_ring.MappingAt(0));
        Assert.Equal((1, 1, 1), (stage.Exporter.Buffer.References, hidden.Buffer.References, _file.References));
    }

    [Fact]
    public void R1_T11_a_device_that_is_gone_answers_ENODEV_to_a_registration()
    {
        using var stage = new Stage(register: false);
        stage.Device.Device.MarkRemoved();
        BufferRegistration own = new() { Memory = _memory, File = stage.File, Mapping = BufferMapping.PerRequest };
        Assert.Equal(Errno.ENODEV, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(0, own)));
        Assert.Equal(1, stage.File.References);
    }

    [Fact]
    public void R6_the_registration_and_its_buffer_live_until_the_last_request_has_ended()
    {
        using var pieces = new PieceExporter(8192);
        Register(pieces.Buffer, tag: 900);
        Assert.Equal(2, pieces.Buffer.References);
        Assert.True(_ring.TryReadFixed(_file, 0, 0, 512, 0, 1));
        _ring.Submit(TestContext.Current.CancellationToken);
        RemovedBuffer removed = _ring.RemoveBuffer(0);
        Assert.Null(removed.Token);
        Assert.Equal((false, 2), (removed.IsReleased, pieces.Buffer.References));
        Assert.True(_ring.TryReadFixed(_file, 0, 0, 512, 0, 2));
        _ring.Submit(TestContext.Current.CancellationToken);

        // Waiting reaps: nobody else would.
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken));
        Assert.Equal((true, 1), (removed.IsReleased, pieces.Buffer.References));
        Assert.Equal(new RingCompletion(2, Errno.EFAULT, 0), One());
        Assert.Equal([new RingCompletion(1, Errno.Ok, 512), new RingCompletion(900, Errno.Ok, 0)], [One(), One()]);
    }

    [Fact]
    public void R6_a_wait_for_a_release_can_be_interrupted()
    {
        Register();
        _device.Room = 0;
        Assert.True(_ring.TryReadFixed(_file, 0, 0, 512, 0, 1));
        _ring.Submit(TestContext.Current.CancellationToken);
        RemovedBuffer removed = _ring.RemoveBuffer(0);
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Equal(Errno.EINTR, removed.WaitReleased(cancelled.Token));
        _device.Room = 8;
        Assert.Equal(Errno.Ok, One().Status);
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken));
    }

    [Fact]
    public void R6_a_slot_changes_its_mapping_while_requests_run()
    {
        using var stage = new Stage(register: false);
        BufferRegistration own = new() { Memory = _memory, File = stage.File };
        stage.Ring.RegisterBuffer(0, own);
        new Random(1).NextBytes(stage.Device.Store);
        stage.Device.Hold = true;
        stage.Read(512, 0, 0, 1);
        stage.Submit();
        stage.Ring.RegisterBuffer(0, own with { Mapping = BufferMapping.PerRequest });
        Assert.Equal(BufferMapping.PerRequest, stage.Ring.MappingAt(0));
        stage.Ring.RegisterBuffer(0, own);
        Assert.Equal(BufferMapping.Premapped, stage.Ring.MappingAt(0));
        Assert.Equal([new RingCompletion(1, Errno.Ok, 512)], stage.Drain());
        Assert.True(_memory.Span(0, 512).SequenceEqual(stage.Device.Store[..512]));
        stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => stage.Device.LiveTokens == 0));
    }

    [Fact]
    public void T16_R4_a_request_without_room_is_parked_and_comes_again()
    {
        Register();
        _device.Room = 2;
        for (ulong i = 0; i < 6; i++)
            Assert.True(_ring.TryReadFixed(_file, 0, (long)i * 512, 512, (long)i * 512, i));
        _ring.Submit(TestContext.Current.CancellationToken);
        var completions = new RingCompletion[6];
        for (int reaped = 0; reaped < 6;)
            reaped += _ring.Reap(completions.AsSpan(reaped), 1, TestContext.Current.CancellationToken);
        Assert.Equal(Enumerable.Range(0, 6).Select(static i => new RingCompletion((ulong)i, Errno.Ok, 512)), completions);
        Assert.Equal([0L, 1, 2, 3, 4, 5], _device.Seen.Select(static s => s.Bio.Sector));
    }

    private void Register(DmaBuf? buffer = null, DmaDirection direction = DmaDirection.Bidirectional, ulong tag = 0) =>
        _ring.RegisterBuffer(0, new BufferRegistration
        {
            Buffer = buffer,
            Memory = buffer is null ? _memory : null,
            File = _file,
            Direction = direction,
            Mapping = BufferMapping.PerRequest,
            Tag = tag,
        });

    private RingCompletion Read(long length, long offset, long fileOffset)
    {
        Assert.True(_ring.TryReadFixed(_file, 0, offset, length, fileOffset, 1));
        return One();
    }

    private RingCompletion Write(long length, long offset, long fileOffset)
    {
        Assert.True(_ring.TryWriteFixed(_file, 0, offset, length, fileOffset, 2));
        return One();
    }

    private RingCompletion One()
    {
        var completions = new RingCompletion[1];
        _ring.Submit(TestContext.Current.CancellationToken);
        Assert.Equal(1, _ring.Reap(completions, 1, TestContext.Current.CancellationToken));
        return completions[0];
    }

    private sealed class PieceExporter : DmaBufExporter, IDisposable
    {
        internal PieceExporter(params int[] lengths)
        {
            Regions = [.. lengths.Select(static l => MemoryRegion.Allocate("piece", l))];
            Buffer = new DmaBuf("pieces", lengths.Sum(), this);
        }

        internal MemoryRegion[] Regions { get; }

        internal DmaBuf Buffer { get; }

        internal bool Hidden { get; init; }

        public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) =>
            throw new InvalidOperationException("nobody maps it");

        public override void Unmap(SgTable table, in HeldReservation held) => throw new InvalidOperationException("nobody maps it");

        public override BufferBacking Describe() => Hidden
            ? new(BackingKind.DeviceMemory, [], CanMove: false)
            : new(BackingKind.HostMemory, [.. Regions.Select(static r => new MemoryRange(r, 0, r.Length))], CanMove: false);

        public override void Release()
        {
            foreach (MemoryRegion region in Regions)
                region.Dispose();
        }

        public void Dispose()
        {
            // The last reference may still be dropped by a worker, which frees the regions then.
            if (Buffer.References > 0)
                Buffer.Put();
        }
    }
}
