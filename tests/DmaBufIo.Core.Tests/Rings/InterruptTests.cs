using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.Rings;

/// <summary>
/// A ring that sleeps for its interrupts. No health check ends a sleep here: a wake-up that is lost is lost for good, and the test's limit
/// ends it.
/// </summary>
public sealed class InterruptTests
{
    private static readonly RingOptions s_sleeping = new()
    {
        Name = "sleeping",
        Entries = 32,
        Completion = CompletionMode.Interrupts,
        HealthCheckInterval = Timeout.InfiniteTimeSpan,
    };

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_completion_that_comes_right_after_a_fruitless_look_wakes_the_ring(int look) => With((stage, device, file) =>
    {
        device.Looked = (number, _) =>
        {
            if (number != look)
                return;
            device.Post();
            device.Interrupt();
        };
        AssertCompletes(stage, file);
        Assert.True(device.Polls <= look + 1, $"{device.Polls} looks");
    });

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_completion_that_is_found_before_its_interrupt_comes_costs_no_later_wake_up(int look) => With((stage, device, file) =>
    {
        bool late = false;
        device.Looked = (number, found) =>
        {
            if (number == look)
            {
                device.Post();
                late = true;
                if (number == 2)
                    device.Interrupt(); // nobody would look again otherwise
            }
            else if (late && found != 0)
            {
                late = false;
                device.Interrupt();
            }
        };
        AssertCompletes(stage, file);
        device.Looked = null;

        // The late interrupt is still raised: it must not be taken for that of the next completion.
        Actor other = Actor.Start("device", () => PostWhenCommitted(device));
        AssertCompletes(stage, file);
        other.Join();
    });

    [Fact]
    public void However_long_the_device_takes_the_ring_looks_only_when_it_was_woken() => With((stage, device, file) =>
    {
        using var secondLook = new ManualResetEventSlim();
        device.Looked = (number, _) =>
        {
            if (number == 2)
                secondLook.Set();
        };
        Thread ring = Thread.CurrentThread;
        Actor other = Actor.Start("device", () =>
        {
            Assert.True(secondLook.Wait(Actor.Limit));
            Assert.True(
                SpinWait.SpinUntil(() => (ring.ThreadState & ThreadState.WaitSleepJoin) != 0, Actor.Limit), "the ring does not sleep");
            device.Post();
            device.Interrupt();
        });
        AssertCompletes(stage, file);
        Assert.Equal(3, device.Polls);
        other.Join();
    });

    [Fact]
    public void An_interrupt_without_a_completion_sends_the_ring_back_to_sleep() => With((stage, device, file) =>
    {
        using var looks = new SemaphoreSlim(0);
        device.Looked = (_, _) => looks.Release();
        Actor other = Actor.Start("device", () =>
        {
            Assert.True(looks.Wait(Actor.Limit) && looks.Wait(Actor.Limit));
            for (int i = 0; i < 100; i++)
            {
                device.Interrupt();
                Assert.True(looks.Wait(Actor.Limit));
            }

            device.Post();
            device.Interrupt();
        });
        AssertCompletes(stage, file);
        Assert.Equal(103, device.Polls);
        other.Join();
    });

    [Fact]
    public void No_wake_up_is_lost_over_many_requests_against_a_device_on_its_own_thread() => With((stage, device, file) =>
    {
        const int Requests = 20_000;
        Actor other = Actor.Start("device", () =>
        {
            for (int i = 0; i < Requests; i++)
                PostWhenCommitted(device);
        });
        for (int i = 0; i < Requests; i++)
            AssertCompletes(stage, file);
        other.Join();
    });

    [Fact]
    public void T14_requests_that_a_visitor_has_ended_wake_the_ring_though_no_interrupt_comes() => With((stage, device, file) =>
    {
        using var secondLook = new ManualResetEventSlim();
        device.Looked = (number, _) =>
        {
            if (number == 2)
                secondLook.Set();
        };
        Actor other = Actor.Start("device", () =>
        {
            Assert.True(secondLook.Wait(Actor.Limit));
            device.Post();
            stage.Ring.Context.ReapAsVisitor();
        });
        AssertCompletes(stage, file);
        other.Join();
    });

    [Fact]
    public void A_sleep_ends_when_it_is_cancelled() => With((stage, device, file) =>
    {
        using var cancel = new CancellationTokenSource();
        device.Looked = (number, _) =>
        {
            if (number == 2)
                cancel.Cancel();
        };
        stage.Ring.TryReadFixed(file, 0, 0, 4096, 0, 1);
        stage.Ring.Submit(cancel.Token);
        Assert.Equal(0, stage.Ring.Reap(new RingCompletion[1], 1, cancel.Token));
        device.Looked = null;
        device.Post();
        Assert.Equal(1, stage.Ring.Reap(new RingCompletion[1], 1, TestContext.Current.CancellationToken));
    });

    [Fact]
    public async Task A_driver_thread_that_waits_for_interrupts_is_woken_by_them_and_by_new_requests()
    {
        const int Requests = 5_000;
        using var stage = new Stage(ring: s_sleeping with { DriverThread = true }, register: false);
        var device = new InterruptingDevice(stage.Device);
        var file = new BlockDeviceFile(device);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
        Actor other = Actor.Start("device", () =>
        {
            // One is always held back, so that the thread waits for interrupts when the next one is handed over.
            for (int i = 0; i < Requests; i++)
                PostWhenCommitted(device, moreThan: i == Requests - 1 ? 0 : 1);
        });
        try
        {
            Task<IoStatus> before = stage.Ring.ReadFixedAsync(file, 0, 0, 4096, 0, TestContext.Current.CancellationToken).AsTask();
            for (int i = 1; i < Requests; i++)
            {
                Task<IoStatus> next = stage.Ring.ReadFixedAsync(file, 0, 0, 4096, 0, TestContext.Current.CancellationToken).AsTask();
                Assert.Equal(new IoStatus(Errno.Ok, 4096), await before.WaitAsync(Actor.Limit, TestContext.Current.CancellationToken));
                before = next;
            }

            Assert.Equal(new IoStatus(Errno.Ok, 4096), await before.WaitAsync(Actor.Limit, TestContext.Current.CancellationToken));
        }
        finally
        {
            device.LetGo();
        }

        other.Join();
        file.Put();
    }

    [Fact]
    public void A_file_whose_device_has_no_interrupts_is_refused_and_nothing_of_it_is_left()
    {
        using var stage = new Stage(ring: s_sleeping, register: false);
        var file = new BlockDeviceFile(new InterruptingDevice(stage.Device) { HasInterrupts = false });
        var refused = Assert.Throws<DmaBufIoException>(
            () => stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file }));
        Assert.Equal(Errno.EOPNOTSUPP, refused.Errno);
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => file.References == 1 && stage.Exporter.Buffer.References == 1));
        file.Put();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-5)]
    public void An_interval_that_is_not_positive_is_refused(int milliseconds)
    {
        var interval = TimeSpan.FromMilliseconds(milliseconds);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => new RingOptions { HealthCheckInterval = interval }).Errno);
    }

    private static void With(Action<Stage, InterruptingDevice, BlockDeviceFile> test)
    {
        using var stage = new Stage(ring: s_sleeping, register: false);
        var device = new InterruptingDevice(stage.Device);
        var file = new BlockDeviceFile(device);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
        try
        {
            test(stage, device, file);
        }
        finally
        {
            device.Looked = null;
            device.LetGo();
        }

        file.Put();
    }

    private static void PostWhenCommitted(InterruptingDevice device, int moreThan = 0)
    {
        long started = Environment.TickCount64;
        while (device.Committed <= moreThan)
        {
            if (Environment.TickCount64 - started > Actor.Limit.TotalMilliseconds)
                Assert.Fail("no request came");
            Thread.Yield();
        }

        device.Post();
        device.Interrupt();
    }

    private static void AssertCompletes(Stage stage, BlockDeviceFile file)
    {
        Assert.True(stage.Ring.TryReadFixed(file, 0, 0, 4096, 0, 7));
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        var completions = new RingCompletion[1];
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(Actor.Limit);
        int count = stage.Ring.Reap(completions, 1, limit.Token);

        // The limit itself wakes it too, and then it finds what it has slept over.
        Assert.True(count == 1 && !limit.IsCancellationRequested, "the ring was not woken");
        Assert.Equal((7ul, Errno.Ok, 4096L), (completions[0].UserData, completions[0].Status, completions[0].Bytes));
    }
}
