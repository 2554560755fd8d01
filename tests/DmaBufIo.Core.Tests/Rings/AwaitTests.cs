// Results are looked at when they are there; a request without a token is another than one with it; continuations run where the ring runs them.
#pragma warning disable CA2012, xUnit1030, xUnit1031, xUnit1051
using DmaBufIo.Block;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Rings;
using DmaBufIo.Sync;

namespace DmaBufIo.Tests.Rings;

/// <summary>Awaited requests on a ring that the application drives itself.</summary>
public sealed class AwaitTests
{
    [Fact]
    public void Awaited_requests_move_the_bytes_and_answer_what_a_completion_would()
    {
        using var stage = new Stage();
        new Random(1).NextBytes(stage.Device.Store);
        Task<IoStatus[]> task = Go();
        stage.Drive(task);
        Assert.Equal(
            [
                new(Errno.Ok, 4096), new(Errno.Ok, 8192), new(Errno.Ok, 0), new(Errno.Ok, 512), new(Errno.EFAULT, 0), new(Errno.EINVAL, 0),
                new(Errno.EBADF, 0), new(Errno.EBADF, 0), new(Errno.ENOSPC, 0), new(Errno.Ok, 0),
            ],
            task.Result);
        Assert.True(stage.Exporter.Region.Span(4096, 4096).SequenceEqual(stage.Device.Store.Slice(512, 4096)));
        Assert.True(stage.Exporter.Region.Span(0, 8192).SequenceEqual(stage.Device.Store.Slice(65536, 8192)));

        async Task<IoStatus[]> Go()
        {
            var other = new BlockDeviceFile(stage.Device);
            var all = new IoStatus[10];
            all[0] = await stage.Ring.ReadFixedAsync(stage.File, 0, 4096, 4096, 512).ConfigureAwait(false);
            all[1] = await stage.Ring.WriteFixedAsync(stage.File, 0, 0, 8192, 65536).ConfigureAwait(false);
            all[2] = await stage.Ring.FlushAsync(stage.File).ConfigureAwait(false);
            all[3] = await stage.Ring.ReadFixedAsync(stage.File, 0, 65536, 4096, (4 << 20) - 512).ConfigureAwait(false);
            all[4] = await stage.Ring.ReadFixedAsync(stage.File, 0, Stage.BufferSize, 512, 0).ConfigureAwait(false);
            all[5] = await stage.Ring.ReadFixedAsync(stage.File, 0, 2, 512, 0).ConfigureAwait(false);
            all[6] = await stage.Ring.ReadFixedAsync(other, 0, 0, 512, 0).ConfigureAwait(false);
            all[7] = await stage.Ring.FlushAsync(other).ConfigureAwait(false);
            all[8] = await stage.Ring.WriteFixedAsync(stage.File, 0, 0, 512, 4 << 20).ConfigureAwait(false);
            all[9] = await stage.Ring.ReadFixedAsync(stage.File, 0, 0, 0, 0).ConfigureAwait(false);
            other.Put();
            return all;
        }
    }

    [Fact]
    public void Nothing_happens_to_an_awaited_request_before_the_ring_is_driven()
    {
        using var stage = new Stage();
        int bios = 0;
        stage.Device.OnSubmit = _ => bios++;
        ValueTask<IoStatus> task = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0, TestContext.Current.CancellationToken);
        Assert.Equal((0, false), (bios, task.IsCompleted));
        Assert.Equal(1, stage.Submit());
        Assert.False(task.IsCompleted);
        Assert.Equal(1, stage.Ring.Drive(1, TestContext.Current.CancellationToken));
        Assert.Equal((true, new IoStatus(Errno.Ok, 512)), (task.IsCompleted, task.Result));
        Assert.Equal(0, stage.Ring.Drive(1, TestContext.Current.CancellationToken));
    }

    [Fact]
    public void T18_a_continuation_runs_on_the_reaping_thread_after_the_batch_where_it_may_sleep_and_its_reference_is_dropped()
    {
        using var stage = new Stage();
        int thread = 0;
        var seen = new List<string>();
        _ = Continue(1);
        _ = Continue(2);
        stage.Submit();
        Assert.Empty(seen);
        thread = Environment.CurrentManagedThreadId;
        Assert.Equal(0, stage.Ring.Reap([]));
        Assert.Equal(["1: 0 users, room 32", "2: 0 users, room 32"], seen);

        async Task Continue(int number)
        {
            await stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).ConfigureAwait(false);
            Assert.Equal((thread, false), (Environment.CurrentManagedThreadId, NoSleepContext.IsActive));

            // Both have ended before the first continuation: a batch is a batch. An own reference left would hang here.
            InvalidationReport report = stage.Exporter.Move(TestContext.Current.CancellationToken);
            seen.Add($"{number}: {report.Users} users, room {stage.Ring.Room}");
        }
    }

    [Fact]
    public void Plain_and_awaited_requests_are_mixed_and_the_reaper_sees_the_plain_ones_alone()
    {
        using var stage = new Stage();
        var awaited = new List<Task<IoStatus>>();
        for (int i = 0; i < 16; i++)
        {
            if (i % 2 == 0)
                stage.Read(512, i * 512, i * 512, (ulong)i);
            else
                awaited.Add(stage.Ring.ReadFixedAsync(stage.File, 0, i * 512, 512, i * 512).AsTask());
        }

        Assert.Equal(0, stage.Ring.Room - 16);
        RingCompletion[] completions = new RingCompletion[32];
        Assert.Equal(16, stage.Submit());
        int reaped = stage.Ring.Reap(completions, 16, TestContext.Current.CancellationToken);
        Assert.Equal(Enumerable.Range(0, 8).Select(static i => new RingCompletion((ulong)(2 * i), Errno.Ok, 512)), completions.Take(reaped));
        Assert.All(awaited, static t => Assert.Equal((true, new IoStatus(Errno.Ok, 512)), (t.IsCompleted, t.Result)));
        Assert.Equal((0, 32), (stage.Ring.InFlight, stage.Ring.Room));
    }

    [Fact]
    public void Drive_leaves_plain_completions_to_the_reaper()
    {
        using var stage = new Stage();
        stage.Read(512, 0, 0, 7);
        Task<IoStatus> awaited = stage.Ring.FlushAsync(stage.File).AsTask();
        Assert.Equal(1, stage.Ring.Drive(5, TestContext.Current.CancellationToken));
        Assert.True(awaited.IsCompleted);
        Assert.Equal(0, stage.Ring.InFlight);
        Assert.Equal([new RingCompletion(7, Errno.Ok, 512)], stage.Reap(1));
    }

    [Fact]
    public void A_full_ring_answers_EAGAIN_at_once_and_takes_nothing()
    {
        using var stage = new Stage(ring: new RingOptions { Name = "two", Entries = 2 });
        ValueTask<IoStatus> first = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0);
        stage.Read();
        ValueTask<IoStatus> refused = stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0);
        Assert.Equal((true, new IoStatus(Errno.EAGAIN, 0)), (refused.IsCompleted, refused.Result));
        Assert.Equal(2, stage.Submit());
        Assert.Equal(1, stage.Ring.Drive(1, TestContext.Current.CancellationToken));
        Assert.Equal(new IoStatus(Errno.Ok, 512), first.Result);

        // The place of an awaited request is free as soon as it has ended, that of a plain one when it was reaped.
        Assert.Equal(1, stage.Ring.Room);
        Assert.Single(stage.Reap(1));
    }

    [Fact]
    public void A_continuation_submits_again_and_reaps_from_within()
    {
        using var stage = new Stage(ring: new RingOptions { Name = "small", Entries = 4 });
        int ran = 0;
        Task all = Task.WhenAll(Enumerable.Range(0, 4).Select(Chain));
        stage.Drive(all);
        Assert.Equal(4 * 50, ran);

        async Task Chain(int chain)
        {
            for (int i = 0; i < 50; i++)
            {
                Assert.Equal(Errno.Ok, (await stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).ConfigureAwait(false)).Status);
                ran++;
                if (i % 7 == chain)
                {
                    // Completions of its own, from inside one.
                    stage.Ring.Submit();
                    stage.Ring.Drive(i % 2);
                }
            }
        }
    }

    [Fact]
    public void A_continuation_may_dispose_the_ring()
    {
        using var stage = new Stage();
        var ring = new Ring(new RingOptions { Name = "ring1", Entries = 8 });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File });
        int after = 0;
        Task closing = Close();
        Task<IoStatus>[] others = [.. Enumerable.Range(0, 3).Select(_ => ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).AsTask())];
        ring.Submit(TestContext.Current.CancellationToken);
        Assert.Equal(0, ring.Reap(new RingCompletion[4], 4, TestContext.Current.CancellationToken));
        Assert.True(closing.IsCompletedSuccessfully, closing.Exception?.ToString());
        Assert.All(others, static t => Assert.Equal(new IoStatus(Errno.Ok, 512), t.Result));
        Assert.Equal(1, after);
        Assert.Throws<ObjectDisposedException>(() => ring.Submit());
        Assert.Throws<ObjectDisposedException>(() => ring.Drive());

        async Task Close()
        {
            await ring.ReadFixedAsync(stage.File, 0, 0, 512, 0).ConfigureAwait(false);
            ring.Dispose();
            after++;
        }
    }

    [Fact]
    public void R6_closing_the_ring_ends_what_is_awaited_and_refuses_what_its_continuations_ask_for()
    {
        using var stage = new Stage();
        var ring = new Ring(new RingOptions { Name = "ring1", Entries = 8 });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File });
        Task<(IoStatus First, bool Refused, bool PlainRefused)>[] waiting = [.. Enumerable.Range(0, 8).Select(_ => Go())];
        ring.Dispose();
        Assert.All(waiting, static t => Assert.Equal((new IoStatus(Errno.Ok, 512), true, true), t.Result));
        Assert.Throws<ObjectDisposedException>(() => { _ = ring.FlushAsync(stage.File); });

        async Task<(IoStatus, bool, bool)> Go()
        {
            IoStatus status = await ring.WriteFixedAsync(stage.File, 0, 0, 512, 0).ConfigureAwait(false);
            return (status, Refused(() => _ = ring.FlushAsync(stage.File)), Refused(() => ring.TryFlush(stage.File, 1)));
        }

        static bool Refused(Action action)
        {
            try
            {
                action();
                return false;
            }
            catch (ObjectDisposedException)
            {
                return true;
            }
        }
    }

    [Fact]
    public void A_result_can_be_taken_once_and_the_second_look_is_noticed()
    {
        using var stage = new Stage();
        ValueTask<IoStatus> task = stage.Ring.FlushAsync(stage.File);
        Assert.Throws<InvalidOperationException>(() => task.Result);
        stage.Ring.Drive(1, TestContext.Current.CancellationToken);
        Assert.Equal(Errno.Ok, task.Result.Status);
        Assert.Throws<InvalidOperationException>(() => task.Result);

        // Also when the object serves another request by now.
        ValueTask<IoStatus> next = stage.Ring.FlushAsync(stage.File);
        Assert.Throws<InvalidOperationException>(() => task.Result);
        stage.Ring.Drive(1, TestContext.Current.CancellationToken);
        Assert.Throws<InvalidOperationException>(() => task.Result);
        Assert.Equal(Errno.Ok, next.Result.Status);
    }

    [Fact]
    public void Results_that_nobody_takes_and_results_taken_elsewhere_disturb_no_other_request()
    {
        using var stage = new Stage();
        for (int round = 0; round < 50; round++)
        {
            var tasks = new List<ValueTask<IoStatus>>();
            for (int i = 0; i < 32; i++)
                tasks.Add(stage.Ring.ReadFixedAsync(stage.File, 0, 0, 512L * (i + 1), 0));
            for (int left = 32; left > 0;)
                left -= stage.Ring.Drive(left, TestContext.Current.CancellationToken);
            Actor(() => Assert.All(Enumerable.Range(0, 8), i => Assert.Equal(new IoStatus(Errno.Ok, 512L * (i + 1)), tasks[i].Result)));
            for (int i = 16; i < 32; i++)
                Assert.Equal(new IoStatus(Errno.Ok, 512L * (i + 1)), tasks[i].Result);
        }

        static void Actor(Action action) => SyncTests.Actor.Start("elsewhere", action).Join();
    }

    [Fact]
    public void A_continuation_that_throws_comes_out_of_the_reap_and_the_others_run_with_the_next()
    {
        using var stage = new Stage();
        int ran = 0;
        for (int i = 0; i < 3; i++)
        {
            bool throws = i == 1;
            stage.Ring.FlushAsync(stage.File).GetAwaiter().UnsafeOnCompleted(() =>
            {
                ran++;
                if (throws)
                    throw new NotSupportedException("the application's");
            });
        }

        Assert.Throws<NotSupportedException>(() => stage.Ring.Drive(3));
        Assert.Equal(2, ran);
        stage.Ring.Reap([]);
        Assert.Equal((3, 0), (ran, stage.Ring.InFlight));
    }

    [Fact]
    public void R6_a_ring_whose_closing_met_a_continuation_that_throws_is_open_and_can_be_closed_again()
    {
        using var stage = new Stage();
        var ring = new Ring(new RingOptions { Name = "ring1", Entries = 8 });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File });
        int ran = 0;
        for (int i = 0; i < 2; i++)
        {
            ring.FlushAsync(stage.File).GetAwaiter().UnsafeOnCompleted(() =>
            {
                if (ran++ == 0)
                    throw new NotSupportedException("the application's");
            });
        }

        Assert.Throws<NotSupportedException>(ring.Dispose);
        Assert.Equal(1, ran);
        Assert.True(ring.TryReadFixed(stage.File, 0, 0, 512, 0, 1));
        ring.Dispose();
        Assert.Equal((2, 0), (ran, ring.InFlight));
        Assert.Throws<ObjectDisposedException>(() => ring.TryReadFixed(stage.File, 0, 0, 512, 0, 1));
    }

    [Fact]
    public void I6_R4_random_plain_and_awaited_requests_between_invalidations_leave_what_two_byte_arrays_say()
    {
        for (int run = 0; run < 20; run++)
        {
            int seed = Random.Shared.Next();
            try
            {
                AwaitModel.Run(new Random(seed));
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
            }
        }
    }
}
