using System.Runtime.CompilerServices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>A visitor reaps while the ring's thread prepares (T14): requests are prepared outside the context.</summary>
public sealed class VisitTests
{
    private const int Entries = 4;

    [Fact]
    public void T14_a_place_prepared_while_a_visitor_ends_others_is_given_out_once()
    {
        using var stage = new Stage(
            TokenOptions.Default with { Design = InvalidationDesign.Fenced }, new RingOptions { Name = "small", Entries = Entries });
        MovingExporter other = MovingExporter.Create("b1", Stage.BufferSize);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = other.Buffer, File = stage.File });
        stage.Device.Hold = true;
        stage.Read(userData: 1);
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, 2));
        stage.Submit();
        stage.Invalidate();
        stage.Device.Hold = false;
        stage.Device.Finish();

        // The fence signals when the visitor drops the first request's reference, with the second still to be ended.
        using var inside = new ManualResetEventSlim();
        using var prepared = new ManualResetEventSlim();
        Assert.Single(stage.Exporter.Buffer.Reservation.Unsignaled(FenceUsage.Bookkeep)).OnSignal(() =>
        {
            inside.Set();
            prepared.Wait(Actor.Limit);
        });
        Actor visitor = Actor.Start("visitor", stage.Ring.Context.ReapAsVisitor);
        Assert.True(inside.Wait(Actor.Limit, TestContext.Current.CancellationToken));
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, 3));
        prepared.Set();
        visitor.Join();
        stage.Submit();

        Assert.Equal([1UL, 2, 3], stage.Reap(3).Select(static c => c.UserData).Order().ToArray());
        Assert.Equal((0, Entries), (stage.Ring.InFlight, stage.Ring.Room));
        for (ulong i = 0; i < Entries; i++)
            stage.Read(userData: i);
        Assert.Equal([0UL, 1, 2, 3], stage.Run().Select(static c => c.UserData).Order().ToArray());
        stage.Ring.RemoveBuffer(1).WaitReleased(TestContext.Current.CancellationToken);
        other.Buffer.Put();
    }

    [Fact]
    public void T14_requests_prepared_while_visitors_come_and_go_each_end_once()
    {
        const int Requests = 200_000;
        using var stage = new Stage(ring: new RingOptions { Name = "visited", Entries = 8 });
        using var stop = new ManualResetEventSlim();
        Actor visitor = Actor.Start("visitor", () =>
        {
            while (!stop.IsSet)
                stage.Ring.Context.ReapAsVisitor();
        });
        var ended = new byte[Requests];
        var completions = new RingCompletion[8];
        int made = 0;
        try
        {
            for (int left = Requests; left > 0;)
            {
                while (made < Requests && stage.Ring.TryReadFixed(stage.File, 0, 0, 512, 0, (ulong)made))
                    made++;
                stage.Submit();
                int count = stage.Ring.Reap(completions, 1, TestContext.Current.CancellationToken);
                foreach (RingCompletion completion in completions.AsSpan(0, count))
                {
                    Assert.Equal((Errno.Ok, 512L), (completion.Status, completion.Bytes));
                    Assert.Equal(1, ++ended[completion.UserData]);
                }

                left -= count;
            }
        }
        finally
        {
            stop.Set();
        }

        visitor.Join();
        Assert.Equal((0, 8), (stage.Ring.InFlight, stage.Ring.Room));
    }

    [Fact]
    public void R6_a_registration_removed_in_flight_is_not_remembered_by_the_ring()
    {
        using var stage = new Stage();
        WeakReference buffer = RemoveInFlight(stage, prepareMore: false);
        Collected.AssertGone(buffer, "the buffer");
    }

    [Fact]
    public void R6_nor_by_a_place_that_was_being_prepared_when_the_registration_ended()
    {
        using var stage = new Stage();
        WeakReference buffer = RemoveInFlight(stage, prepareMore: true);
        Collected.AssertGone(buffer, "the buffer");
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static WeakReference RemoveInFlight(Stage stage, bool prepareMore)
    {
        MovingExporter exporter = MovingExporter.Create("b1", Stage.BufferSize);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = exporter.Buffer, File = stage.File });
        for (ulong i = 0; i < 3; i++)
            Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, i));
        stage.Run();
        stage.Device.Hold = true;
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, 4));
        stage.Submit();
        RemovedBuffer removed = stage.Ring.RemoveBuffer(1);
        if (prepareMore)
            Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, 5));
        stage.Device.Hold = false;
        stage.Device.Finish();
        stage.Reap(1);
        if (prepareMore)
            Assert.Equal(Errno.EFAULT, Assert.Single(stage.Run()).Status);
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken));
        var weak = new WeakReference(exporter.Buffer);
        exporter.Buffer.Put();
        return weak;
    }
}
