using DmaBufIo.Pci.Model.Tests.Host;

namespace DmaBufIo.Pci.Model.Tests;

public sealed class QueueTests
{
    private const byte Read = 2;

    [Fact]
    public void Queues_wrap_and_the_phase_inverts_at_each_wrap()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue(entries: 5, completionEntries: 3);
        ulong page = host.Page();
        for (int i = 0; i < 40; i++)
        {
            Completion completion = queue.Run(Command.Io(Read, 0, 1, page));
            Assert.Equal(0, completion.Status);
            Assert.Equal((i + 1) % 5, completion.SqHead);
        }

        Assert.Empty(host.Model.Violations);
    }

    [Fact]
    public void A_queue_of_two_entries_works()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue(entries: 2);
        for (int i = 0; i < 10; i++)
            Assert.Equal(0, queue.Run(Command.Io(Read, 0, 1, host.Page())).Code);
    }

    [Fact]
    public void A_full_completion_queue_holds_commands_until_the_head_moves()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue(entries: 16, completionEntries: 4);
        ulong page = host.Page();
        for (int i = 0; i < 10; i++)
            queue.Place(Command.Io(Read, 0, 1, page));
        queue.Ring();
        host.Model.Advance();
        for (int i = 0; i < 3; i++)
        {
            Assert.True(queue.TryReap(out Completion completion, ring: false));
            Assert.Equal(i, completion.Id);
        }

        // One slot always stays empty: without the head's move there is no fourth completion, however often the controller looks.
        host.Model.Advance();
        Assert.False(queue.TryReap(out _, ring: false));
        queue.RingHead();
        for (int i = 3; i < 10; i++)
            Assert.Equal(i, queue.Reap().Id);
        Assert.Empty(host.Model.Violations);
    }

    [Fact]
    public void Commands_of_a_full_submission_queue_all_complete_in_order()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue(entries: 64);
        ulong page = host.Page();
        for (int turn = 0; turn < 5; turn++)
        {
            ushort[] ids = [.. Enumerable.Range(0, 63).Select(_ => queue.Place(Command.Io(Read, 0, 1, page)))];
            queue.Ring();
            foreach (ushort id in ids)
                Assert.Equal(id, queue.Reap().Id);
        }
    }

    [Fact]
    public void Submission_queues_are_served_round_robin_by_the_arbitration_burst()
    {
        using var host = new NvmeHost();
        ulong shared = host.Page();
        Assert.Equal(0, host.CreateCompletionQueue(1, 64, shared).Code);
        HostQueue[] queues = new HostQueue[3];
        for (int i = 0; i < 3; i++)
        {
            ulong memory = host.Page();
            Assert.Equal(0, host.CreateSubmissionQueue(i + 1, 16, memory, 1).Code);
            queues[i] = new HostQueue(host, i + 1, memory, 16, shared, 64, 1);
        }

        Assert.Equal(0, host.SetFeature(1, 1).Code); // bursts of two
        ulong page = host.Page();
        foreach (HostQueue queue in queues)
        {
            for (int i = 0; i < 6; i++)
                queue.Submit(Command.Io(Read, 0, 1, page));
        }

        List<int> order = [];
        for (int i = 0; i < 18; i++)
            order.Add(queues[0].Reap().SqId);
        for (int i = 0; i < 18; i += 6)
            Assert.Equal([1, 2, 3], order.Skip(i).Take(6).Order().Distinct());
        for (int i = 0; i < 18; i += 2)
            Assert.Equal(order[i], order[i + 1]);
    }

    [Theory]
    [InlineData(64u)]
    [InlineData(uint.MaxValue)]
    public void A_tail_outside_its_queue_is_ignored_and_recorded(uint value)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue(entries: 64);
        host.Model.Write32(0, 0x1000 + 8, value);
        host.Model.Advance();
        NvmeViolation violation = host.OnlyViolation("doorbell");
        Assert.Equal((1, 0x1008ul), (violation.QueueId, violation.Address));
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 1, host.Page())).Code);
    }

    [Fact]
    public void A_tail_that_overtakes_the_head_is_ignored_and_recorded()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue(entries: 8, completionEntries: 2);
        ulong page = host.Page();
        for (int i = 0; i < 6; i++)
            queue.Submit(Command.Io(Read, 0, 1, page));
        host.Model.Advance(); // one completes, five wait for the completion queue
        host.Model.Write32(0, 0x1008, 3); // from 6 to 3: five more, but only two are free
        host.Model.Advance();
        host.OnlyViolation("doorbell");
    }

    [Fact]
    public void A_completion_head_beyond_what_was_posted_is_ignored_and_recorded()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue(entries: 8);
        host.Model.Write32(0, 0x100C, 3);
        queue.Submit(Command.Io(Read, 0, 1, host.Page()));
        host.Model.Advance();
        Assert.Equal(0x100Cul, host.OnlyViolation("doorbell").Address);
    }

    [Fact]
    public void A_doorbell_without_a_queue_is_recorded_and_reported_by_an_asynchronous_event()
    {
        using var host = new NvmeHost();
        ushort id = host.Admin.Submit(new Command { Opcode = 0x0C });
        host.Model.Write32(0, 0x1000 + 5 * 8, 1);
        Completion completion = host.Admin.Reap();
        Assert.Equal(id, completion.Id);
        Assert.Equal(0x01_00_00u, completion.Result); // error, invalid doorbell register, log page 01h
        Assert.Equal(0x1028ul, host.OnlyViolation("doorbell").Address);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Each_completion_queue_interrupts_through_its_own_vector(bool ownThread)
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = ownThread });
        HostQueue silent = host.CreateQueue(1);
        HostQueue loud = host.CreateQueue(2, vector: 5);
        int[] counts = new int[host.Model.InterruptVectors];
        using var arrived = new SemaphoreSlim(0);
        for (int i = 0; i < counts.Length; i++)
        {
            int vector = i;
            host.Model.SetInterruptHandler(i, () =>
            {
                Interlocked.Increment(ref counts[vector]);
                arrived.Release();
            });
        }

        Assert.Equal(0, silent.Run(Command.Io(Read, 0, 1, host.Page())).Code);
        loud.Submit(Command.Io(Read, 0, 1, host.Page()));
        host.Model.Advance();
        Assert.True(arrived.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
        Assert.True(loud.TryReap(out Completion completion), "the interrupt came before its completion was visible");
        Assert.Equal(0, completion.Code);
        Assert.Equal(1, counts[5]);
        Assert.Equal(0, counts[1]); // the silent queue has interrupts disabled
        Assert.Equal(1, counts.Skip(1).Sum()); // vector 0 may still report the queue's creation
        host.Model.SetInterruptHandler(5, null);
        Assert.Equal(0, loud.Run(Command.Io(Read, 0, 1, host.Page())).Code);
        Assert.Equal(1, counts[5]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_masked_vector_waits_until_it_is_unmasked(bool ownThread)
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = ownThread });
        HostQueue queue = host.CreateQueue(1, vector: 1);
        using var arrived = new SemaphoreSlim(0);
        host.Model.SetInterruptHandler(1, () => arrived.Release());
        host.Model.Write32(0, 0x0C, 2);
        Assert.Equal(2u, host.Model.Read32(0, 0x10));
        Assert.Equal(0, queue.Run(Command.Io(Read, 0, 1, host.Page())).Code);
        Assert.Equal(0, arrived.CurrentCount);
        host.Model.Write32(0, 0x10, 2);
        host.Model.Advance();
        Assert.True(arrived.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
    }

    [Fact]
    public void An_interrupt_handler_may_submit_and_advance()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue(1, vector: 1);
        ulong page = host.Page();
        int reaped = 0;
        host.Model.SetInterruptHandler(1, () =>
        {
            while (queue.TryReap(out _))
            {
                if (++reaped >= 20)
                    continue;
                queue.Submit(Command.Io(Read, 0, 1, page));
                host.Model.Advance();
            }
        });
        queue.Submit(Command.Io(Read, 0, 1, page));
        host.Model.Advance();
        Assert.Equal(20, reaped);
    }

    [Fact]
    public void A_stalled_controller_fetches_nothing_and_goes_on_afterwards()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        host.Model.Stall = true;
        ushort id = queue.Submit(Command.Io(Read, 0, 1, host.Page()));
        host.Fabric.ForgetAccesses();
        host.Model.Advance();
        Assert.Empty(host.Fabric.Accesses);
        Assert.Equal(1u, host.Csts);
        host.Model.Stall = false;
        Assert.Equal(id, queue.Reap().Id);
    }

    [Fact]
    public void A_deleted_and_recreated_queue_starts_from_its_beginning()
    {
        using var host = new NvmeHost();
        for (int turn = 0; turn < 3; turn++)
        {
            HostQueue queue = host.CreateQueue(entries: 8);
            for (int i = 0; i < 5; i++)
                Assert.Equal(0, queue.Run(Command.Io(Read, 0, 1, host.Page())).Code);
            Assert.Equal(0, host.Delete(0, 1).Code);
            Assert.Equal(0, host.Delete(4, 1).Code);
        }

        Assert.Empty(host.Model.Violations);
    }

    [Fact]
    public void Many_threads_with_a_queue_each_complete_everything_on_the_controllers_thread()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = true });
        host.Fabric.Recording = false;
        const int Rounds = 3000;
        HostQueue[] queues = [.. Enumerable.Range(1, 3).Select(i => host.CreateQueue(i, entries: 8))];
        ulong[] pages = [.. queues.Select(_ => host.Page())];
        Exception?[] errors = new Exception?[queues.Length];
        Thread[] threads = [.. queues.Select((queue, i) => new Thread(() =>
        {
            try
            {
                for (int round = 0; round < Rounds; round++)
                    Assert.Equal(0, queue.Run(Command.Io(Read, 0, 1, pages[i])).Code);
            }
            catch (Exception error)
            {
                errors[i] = error;
            }
        }))];
        foreach (Thread thread in threads)
            thread.Start();
        foreach (Thread thread in threads)
            thread.Join();
        Assert.All(errors, Assert.Null);
        Assert.Empty(host.Model.Violations);
    }

    [Fact]
    public void A_doorbell_rung_while_the_controller_decides_to_sleep_is_seen()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = true });
        host.Fabric.Recording = false;
        HostQueue queue = host.CreateQueue();
        queue.Place(Command.Io(Read, 0, 1, host.Page()));

        // Rung when the last look has found nothing and the sleeping flag is still 0: no wake comes, only the look after the barrier
        // can find it.
        int rung = 0;
        host.Model.AboutToSleep = () =>
        {
            if (Interlocked.Exchange(ref rung, 1) == 0)
                queue.Ring();
        };
        Assert.Equal(0, queue.Reap().Code);
        host.Model.AboutToSleep = null;
    }

    [Fact]
    public void A_sleeping_controller_is_woken_by_a_doorbell()
    {
        using var nearSleep = new SemaphoreSlim(0); // goes after the controller, whose thread uses it
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = true });
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        host.Model.AboutToSleep = () => nearSleep.Release();
        for (int turn = 0; turn < 20; turn++)
        {
            // A command wakes it, wherever it is; after that it goes to sleep, and tells.
            while (nearSleep.Wait(0, TestContext.Current.CancellationToken))
            {
            }

            Assert.Equal(0, queue.Run(Command.Io(Read, 0, 1, page)).Code);
            Assert.True(nearSleep.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Nothing_is_allocated_per_command_after_warm_up(bool ownThread)
    {
        using var file = new TempFile(1 << 20);
        using var host = new NvmeHost(new NvmeModelOptions { Path = file.Path, OwnThread = ownThread });
        host.Fabric.Recording = false;
        HostQueue queue = host.CreateQueue(entries: 32, vector: 1);
        ulong[] pages = host.ScatteredPages(20);
        (ulong prp1, ulong prp2) = host.BuildPrp(pages, 0);

        // The handler runs on the thread that executes the commands, so it can ask for that thread's own count.
        long latest = 0;
        host.Model.SetInterruptHandler(1, () => Volatile.Write(ref latest, GC.GetAllocatedBytesForCurrentThread()));
        long before = 0;
        for (int round = 0; round < 400; round++)
        {
            if (round == 200)
                before = Volatile.Read(ref latest);
            for (int i = 0; i < 10; i++)
                queue.Place(Command.Io((byte)(1 + (i & 1)), 8, 160, prp1, prp2));
            queue.Ring();
            for (int i = 0; i < 10; i++)
            {
                if (queue.Reap().Code != 0)
                    Assert.Fail("a command failed");
            }
        }

        Assert.NotEqual(0, before);
        Assert.Equal(before, Volatile.Read(ref latest));
    }
}
