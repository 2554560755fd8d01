using System.Buffers;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.Rings;

/// <summary>What files, drivers and applications throw in the middle of the request path: no request is lost or doubled, and no reference (R4, T16).</summary>
public sealed class FaultRuleTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(2)]
    [InlineData(3)]
    public void R4_a_batch_cut_off_by_its_file_ends_the_request_that_met_the_fault_and_no_other(int issued)
    {
        using var stage = new Stage(register: false);
        var file = new FaultingFile(stage.Device);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
        Warm(stage, file);
        Assert.True(stage.Ring.TryFlush(file, 100));
        for (ulong i = 0; i < 4; i++)
            Assert.True(stage.Ring.TryReadFixed(file, 0, 0, 4096, 0, i));
        file.ThrowAfter = issued;

        RingCompletion[] completions = stage.Run();

        Assert.Equal(
            Enumerable.Range(0, 4).Select(i => ((ulong)i, i == issued ? Errno.EIO : Errno.Ok)).Append((100UL, Errno.Ok)),
            completions.Select(static c => (c.UserData, c.Status)).Order());
        AssertReleases(stage, 0);
        file.Put();
    }

    [Fact]
    public void T16_a_request_whose_ranges_are_freed_while_it_starts_gives_its_reference_back()
    {
        using var stage = new Stage();
        using var ranges = new RangesFreedAfter(1);
        Assert.True(stage.Ring.TryReadFixedVector(stage.File, 0, ranges.Memory, 0, 1));
        Assert.Equal(Errno.EIO, Assert.Single(stage.Run()).Status);
        AssertReleases(stage, 0);
    }

    [Fact]
    public void T16_a_request_cut_off_before_it_has_a_reference_drops_none_of_the_map_its_place_has_used_before()
    {
        using var stage = new Stage();
        MovingExporter other = MovingExporter.Create("b1", Stage.BufferSize);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = other.Buffer, File = stage.File });
        ReadOther(stage);
        stage.Reap(1);

        // The same place again: the wait for its map throws.
        using (ReservationGuard guard = stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            stage.Read();
            Actor owner = Actor.Start("owner", () => stage.Ring.Submit());
            owner.UntilItWaitsFor("b0");
            owner.Interrupt();
            owner.Join();
        }

        Assert.Equal(Errno.EIO, Assert.Single(stage.Reap(1)).Status);

        // A reference too few on the other buffer's map would let it move under a request.
        stage.Device.Hold = true;
        ReadOther(stage);
        Actor mover = Actor.Start("mover", () => other.Move(TestContext.Current.CancellationToken));
        mover.UntilItWaitsFor("drain");
        stage.Drain();
        mover.Join();
        AssertReleases(stage, 1);
        other.Buffer.Put();
    }

    [Fact]
    public void T18_a_callback_of_a_fence_that_throws_stops_neither_the_others_nor_the_requests_that_end()
    {
        using var stage = new Stage(Tokens.TokenOptions.Default with { Design = Tokens.InvalidationDesign.Fenced });
        stage.Device.Hold = true;
        stage.Read(userData: 1);
        stage.Submit();
        stage.Invalidate();
        DmaFence fence = Assert.Single(stage.Exporter.Buffer.Reservation.Unsignaled(FenceUsage.Bookkeep));
        bool called = false;
        fence.OnSignal(static () => throw new InvalidOperationException("as the test wants it"));
        fence.OnSignal(() => called = true);
        Assert.Equal(1UL, Assert.Single(stage.Drain()).UserData);
        Assert.True(called);
        Assert.Equal(32, stage.Ring.Room);
    }

    [Fact]
    public async Task A_ring_with_a_driver_thread_outlives_a_device_that_throws_when_it_is_looked_at()
    {
        using var stage = new Stage(ring: new RingOptions { Name = "driven", Entries = 8, DriverThread = true }, register: false);
        var file = new FaultingFile(stage.Device);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
        file.ThrowingPolls = 3;
        IoStatus read = await stage.Ring.ReadFixedAsync(file, 0, 0, 4096, 0, TestContext.Current.CancellationToken);
        Assert.Equal(Errno.Ok, read.Status);
        file.Put();
    }

    [Fact]
    public void Requests_that_are_cancelled_while_one_before_them_waits_for_its_map_are_counted_once()
    {
        using var stage = new Stage();
        using var cancel = new CancellationTokenSource();
        using (ReservationGuard guard = stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            Task<IoStatus>[] reads = [.. Enumerable.Range(0, 3).Select(_ => stage.Ring.ReadFixedAsync(stage.File, 0, 0, 4096, 0, cancel.Token).AsTask())];
            Assert.All(reads, static r => Assert.False(r.IsCompleted));
            Actor owner = Actor.Start("owner", () => stage.Ring.Submit());
            owner.UntilItWaitsFor("b0");
            cancel.Cancel();
            owner.Join();
        }

        stage.Ring.Drive(3, TestContext.Current.CancellationToken);
        Assert.Equal(3, stage.Ring.Counters.Requests);
        Assert.Equal(3, stage.Ring.Counters.Failed);
    }

    private static void Warm(Stage stage, FaultingFile file)
    {
        Assert.True(stage.Ring.TryReadFixed(file, 0, 0, 4096, 0, 1));
        Assert.Equal(Errno.Ok, Assert.Single(stage.Run()).Status);
    }

    private static void ReadOther(Stage stage)
    {
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, 2));
        stage.Submit();
    }

    private static void AssertReleases(Stage stage, int slot)
    {
        using var limit = new CancellationTokenSource(Actor.Limit);
        Assert.Equal(Errno.Ok, stage.Ring.RemoveBuffer(slot).WaitReleased(limit.Token));
    }

    /// <summary>Ranges that an application disposes at the wrong moment: after so many looks at them.</summary>
    private sealed class RangesFreedAfter(int looks) : MemoryManager<BufferRange>
    {
        private readonly BufferRange[] _ranges = [new(0, 4096), new(8192, 4096)];
        private int _looks;

        public override Span<BufferRange> GetSpan()
        {
            ObjectDisposedException.ThrowIf(++_looks > looks, this);
            return _ranges;
        }

        public override Memory<BufferRange> Memory => CreateMemory(_ranges.Length);

        public override MemoryHandle Pin(int elementIndex = 0) => throw new NotSupportedException();

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}
