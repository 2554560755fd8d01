// Results are looked at when they are there; a request without a token is another than one with it; continuations run where the ring runs them.
#pragma warning disable CA2012, xUnit1030, xUnit1031, xUnit1051
using System.Globalization;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Memory;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Sync;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.Rings;

/// <summary>A ring with a thread of its own, for applications that only await.</summary>
public sealed class DriverThreadTests
{
    private static readonly RingOptions s_driven = new() { Name = "driven", Entries = 8, DriverThread = true };

    [Fact]
    public async Task Requests_are_awaited_from_any_thread_and_continue_on_the_thread_pool()
    {
        using var stage = new Stage(ring: s_driven);
        new Random(1).NextBytes(stage.Device.Store);
        IoStatus status = await stage.Ring.ReadFixedAsync(stage.File, 0, 4096, 4096, 512).ConfigureAwait(false);
        Assert.Equal(new IoStatus(Errno.Ok, 4096), status);
        Assert.True(stage.Exporter.Region.Span(4096, 4096).SequenceEqual(stage.Device.Store.Slice(512, 4096)));
        bool onPool = await OnPool(stage).ConfigureAwait(false);
        Assert.True(onPool, "the continuation ran on the driver thread");
        Assert.Equal(new IoStatus(Errno.Ok, 0), await stage.Ring.FlushAsync(stage.File).ConfigureAwait(false));
        Assert.Equal(Errno.EFAULT, (await stage.Ring.WriteFixedAsync(stage.File, 5, 0, 512, 0).ConfigureAwait(false)).Status);
    }

    [Fact]
    public void Plain_requests_and_driving_are_refused_with_the_reason()
    {
        using var stage = new Stage(ring: s_driven);
        Action[] plain =
        [
            () => stage.Ring.TryReadFixed(stage.File, 0, 0, 512, 0, 1), () => stage.Ring.TryWriteFixed(stage.File, 0, 0, 512, 0, 1),
            () => stage.Ring.TryReadFixedVector(stage.File, 0, default, 0, 1), () => stage.Ring.TryWriteFixedVector(stage.File, 0, default, 0, 1),
            () => stage.Ring.TryFlush(stage.File, 1), () => stage.Ring.Submit(), () => stage.Ring.Reap([]), () => stage.Ring.Drive(),
        ];
        Assert.All(plain, static action =>
            Assert.Contains("driver thread", Assert.Throws<InvalidOperationException>(action).Message, StringComparison.Ordinal));
        BufferRegistration tagged = new() { Buffer = stage.Exporter.Buffer, File = stage.File, Tag = 1 };
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(1, tagged)));
    }

    [Fact]
    public void Outstanding_requests_are_bounded_by_the_rings_entries_and_more_are_EAGAIN()
    {
        using var stage = new Stage(ring: s_driven);
        stage.Device.Hold = true;
        ValueTask<IoStatus>[] taken = [.. Enumerable.Range(0, 8).Select(i => stage.Ring.ReadFixedAsync(stage.File, 0, i * 512, 512, 0))];
        ValueTask<IoStatus> refused = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0);
        Assert.Equal((true, new IoStatus(Errno.EAGAIN, 0)), (refused.IsCompleted, refused.Result));
        Actor.Until(() => stage.Device.Finish() + stage.Device.Held >= 0 && taken.All(static t => t.IsCompleted), "all have ended");
        Assert.All(taken, static t => Assert.Equal(new IoStatus(Errno.Ok, 512), t.Result));

        // Their places are free before anybody hears of the end.
        stage.Device.Hold = false;
        ValueTask<IoStatus>[] again = [.. Enumerable.Range(0, 8).Select(_ => stage.Ring.FlushAsync(stage.File))];
        Actor.Until(() => again.All(static t => t.IsCompleted), "all have ended");
        Assert.All(again, static t => Assert.Equal(new IoStatus(Errno.Ok, 0), t.Result));
    }

    [Fact]
    public void T14_T18_a_buffer_moves_while_the_driver_works_and_a_continuation_may_move_it()
    {
        using var stage = new Stage(ring: s_driven);
        Task all = Task.WhenAll(Enumerable.Range(0, 4).Select(_ => Go()));
        Wait(all);

        async Task Go()
        {
            for (int i = 0; i < 50; i++)
            {
                Assert.Equal(Errno.Ok, (await stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).ConfigureAwait(false)).Status);
                Assert.False(NoSleepContext.IsActive);
                if (i % 5 == 0)
                    stage.Exporter.Move();
            }
        }
    }

    [Fact]
    public void R2_R4_workers_on_many_threads_between_moves_leave_what_two_byte_arrays_say()
    {
        foreach (int depth in (int[])[1, 5, 64])
        {
            int seed = Random.Shared.Next();
            var random = new Random(seed);
            using var stage = new Stage(
                ring: new RingOptions { Name = "hammered", Entries = 4, Bios = 6, DriverThread = true },
                limits: new QueueLimits(512) { MaxBytes = 2048 });
            stage.Device.QueueDepth = depth;
            var model = new AwaitModel(stage, random);
            Task all = Task.WhenAll(Enumerable.Range(0, 8).Select(i =>
            {
                var own = new Random(random.Next());
                return Task.Run(() => model.Work(i, own, 400, mayBeFull: true), TestContext.Current.CancellationToken);
            }));
            Actor mover = Actor.Start("mover", () =>
            {
                while (!all.IsCompleted)
                {
                    stage.Exporter.Move();
                    Thread.Yield();
                }
            });
            Wait(all, $"seed {seed}, depth {depth}");
            mover.Join();
            model.Check();
        }
    }

    [Fact]
    public void R6_slots_are_filled_and_emptied_from_other_threads_while_requests_run()
    {
        using var stage = new Stage(ring: s_driven with { Entries = 64 });
        using var memory = MemoryRegion.Allocate("own", 65536);
        PuppetBlockDevice device = stage.AddDevice("puppet1");
        using var stop = new CancellationTokenSource();
        Task[] readers = [.. Enumerable.Range(0, 3).Select(_ => Task.Run(Read, TestContext.Current.CancellationToken))];
        Actor[] registrars = [.. Enumerable.Range(1, 2).Select(slot => Actor.Start("registrar", () =>
        {
            for (int i = 0; i < 200; i++)
            {
                var file = new BlockDeviceFile(i % 3 == 0 ? device : stage.Device);
                stage.Ring.RegisterBuffer(slot, new BufferRegistration { Memory = memory, File = file });
                ValueTask<IoStatus> read = stage.Ring.ReadFixedAsync(file, slot, 0, 512, 0);
                RemovedBuffer removed = stage.Ring.RemoveBuffer(slot);
                Errno status = read.AsTask().GetAwaiter().GetResult().Status;
                Assert.True(status is Errno.Ok or Errno.EFAULT, $"{status}");
                Assert.Equal(Errno.Ok, removed.WaitReleased());
                file.Put();
            }
        }))];
        Array.ForEach(registrars, static r => r.Join());
        stop.Cancel();
        Wait(Task.WhenAll(readers));
        Assert.Equal(Errno.ENXIO, StageVerbs.Refusal(() => stage.Ring.RemoveBuffer(1)));

        async Task Read()
        {
            while (!stop.IsCancellationRequested)
                Assert.Equal(Errno.Ok, (await stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).ConfigureAwait(false)).Status);
        }
    }

    [Fact]
    public void R6_disposing_waits_for_what_is_outstanding_and_its_awaiters_hear_of_it()
    {
        using var stage = new Stage(register: false);
        var ring = new Ring(s_driven);
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File });
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 2;
        Task<IoStatus>[] waiting = [.. Enumerable.Range(0, 8).Select(i => ring.ReadFixedAsync(stage.File, 0, i * 512, 512, 0).AsTask())];
        Actor closing = Actor.Start("closing", ring.Dispose);
        closing.UntilItWaitsFor("end of driven driver");
        Assert.Throws<ObjectDisposedException>(() => { _ = ring.FlushAsync(stage.File); });
        Assert.Throws<ObjectDisposedException>(() => ring.TryFlush(stage.File, 1));
        ring.Dispose(); // somebody does it already
        Actor.Until(() => stage.Device.Finish() >= 0 && closing.IsDone, "the ring is closed");
        closing.Join();
        Wait(Task.WhenAll(waiting));
        Assert.All(waiting, static t => Assert.Equal(new IoStatus(Errno.Ok, 512), t.Result));
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => stage.Device.LiveTokens == 0));
        Assert.Equal(1, stage.File.References);
    }

    [Fact]
    public void A_continuation_may_dispose_the_ring()
    {
        using var stage = new Stage(register: false);
        var ring = new Ring(s_driven);
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File });
        Wait(Go());
        Assert.Throws<ObjectDisposedException>(() => { _ = ring.FlushAsync(stage.File); });

        async Task Go()
        {
            await ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).ConfigureAwait(false);
            ring.Dispose();
        }
    }

    [Fact]
    public void A_request_that_waits_for_room_can_be_cancelled()
    {
        using var stage = new Stage(ring: s_driven);
        using var cancel = new CancellationTokenSource();
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 1;
        Task<IoStatus> issued = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, cancel.Token).AsTask();
        Actor.Until(() => stage.Device.Held == 1, "the device has it");
        Task<IoStatus> parked = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, cancel.Token).AsTask();
        cancel.Cancel();
        Wait(parked);
        Assert.Equal((Errno.EINTR, false), (parked.Result.Status, issued.IsCompleted));
        stage.Device.Finish();
        Wait(issued);
        Assert.Equal(new IoStatus(Errno.Ok, 512), issued.Result);
    }

    [Fact]
    public void A_ring_without_requests_sleeps_and_wakes_for_the_next()
    {
        // The kernel's name of a thread has 15 characters.
        using var stage = new Stage(ring: s_driven with { Name = "sleeper" });
        for (int round = 0; round < 3; round++)
        {
            Task<IoStatus> task = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).AsTask();
            Wait(task);
            Assert.Equal(Errno.Ok, task.Result.Status);

            // Asleep, and not once woken between many looks.
            string before = "";
            int same = 0;
            Actor.Until(
                () =>
                {
                    string now = SwitchesOf("sleeper driver");
                    same = now == before ? same + 1 : 0;
                    before = now;
                    Thread.Sleep(1);
                    return same == 50;
                },
                "the driver sleeps");
        }
    }

    private static string SwitchesOf(string thread)
    {
        foreach (string task in Directory.GetDirectories("/proc/self/task"))
        {
            string[] status;
            try
            {
                status = System.IO.File.ReadAllLines(Path.Combine(task, "status"));
            }
            catch (IOException)
            {
                continue; // the thread has ended meanwhile
            }

            if (status[0] != $"Name:\t{thread}")
                continue;
            string state = status.First(static l => l.StartsWith("State:", StringComparison.Ordinal));
            string[] switches = [.. status.Where(static l => l.Contains("ctxt_switches", StringComparison.Ordinal))];
            return state.Contains("S (", StringComparison.Ordinal)
                ? string.Join(' ', switches)
                : string.Create(CultureInfo.InvariantCulture, $"running, {Random.Shared.NextInt64()}");
        }

        return string.Create(CultureInfo.InvariantCulture, $"not found, {Random.Shared.NextInt64()}");
    }

    private static async Task<bool> OnPool(Stage stage)
    {
        await stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).ConfigureAwait(false);
        return Thread.CurrentThread.IsThreadPoolThread;
    }

    private static void Wait(Task task, string what = "the awaited requests")
    {
        if (!task.Wait(Actor.Limit, TestContext.Current.CancellationToken))
            Assert.Fail($"{what}: not ended after {Actor.Limit}");
    }
}
