using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Rings;

namespace DmaBufIo.Tests.Rings;

/// <summary>What the rule tests of rings say again and again.</summary>
internal static class StageVerbs
{
    /// <summary>Submits what is prepared; interrupted when the test is.</summary>
    internal static int Submit(this Stage stage) => stage.Ring.Submit(TestContext.Current.CancellationToken);

    internal static InvalidationReport Move(this Stage stage) => stage.Exporter.Move(TestContext.Current.CancellationToken);

    /// <summary>An invalidation that leaves the buffer where it is: in the fenced design it waits for nothing.</summary>
    internal static InvalidationReport Invalidate(this Stage stage)
    {
        using ReservationGuard guard = stage.Exporter.Buffer.Reservation.Lock(null, TestContext.Current.CancellationToken);
        return stage.Exporter.Buffer.InvalidateMappings(guard.Held);
    }

    internal static RingCompletion ReadOnce(this Stage stage, long length, long bufferOffset, long fileOffset)
    {
        stage.Read(length, bufferOffset, fileOffset);
        return Assert.Single(stage.Run());
    }

    internal static RingCompletion WriteOnce(this Stage stage, long length, long bufferOffset, long fileOffset)
    {
        stage.Write(length, bufferOffset, fileOffset);
        return Assert.Single(stage.Run());
    }

    internal static RingCompletion ReadVectorOnce(this Stage stage, long fileOffset, params BufferRange[] ranges)
    {
        Assert.True(stage.Ring.TryReadFixedVector(stage.File, 0, ranges, fileOffset, 1));
        return Assert.Single(stage.Run());
    }

    /// <summary>Drives the ring until a task of awaited requests has ended, and hands on what it threw.</summary>
    internal static void Drive(this Stage stage, Task task)
    {
        long started = System.Diagnostics.Stopwatch.GetTimestamp();
        while (!task.IsCompleted)
        {
            stage.Ring.Drive(0, TestContext.Current.CancellationToken);
            if (System.Diagnostics.Stopwatch.GetElapsedTime(started) > SyncTests.Actor.Limit)
                Assert.Fail($"the awaited requests have not ended: {stage.Ring.InFlight} in flight, room {stage.Ring.Room}");
        }

        task.GetAwaiter().GetResult();
    }

    /// <summary>Everything held is done and everything in flight is reaped.</summary>
    internal static RingCompletion[] Drain(this Stage stage)
    {
        stage.Device.Hold = false;
        stage.Device.Finish();
        return stage.Reap(stage.Ring.InFlight);
    }

    internal static Errno Refusal(Action action) => Assert.Throws<DmaBufIoException>(action).Errno;
}
