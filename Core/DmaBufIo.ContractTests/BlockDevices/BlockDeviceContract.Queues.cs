using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>What a queue takes, when it ends it, and for whom (Q1 to Q4).</content>
public abstract partial class BlockDeviceContract
{
    /// <summary>More bios than there is room for: the first are taken, the others can be submitted again, and each moves its data.</summary>
    [Fact]
    public virtual void Q1_a_queue_takes_the_first_and_leaves_the_rest() => OnStage(stage =>
    {
        int size = stage.BioOf(512);
        int apart = Math.Max(size, stage.Limits.DmaAlignment);
        int count = (int)Math.Min(192, Math.Min(stage.Device.Capacity / size, BlockDeviceStage.MemorySize / apart));
        BlockLane lane = stage.Lane(Math.Min(16, count / 4));
        BioPlan[] plans = new BioPlan[count];
        for (int i = 0; i < count; i++)
        {
            BioBacking kind = stage.Kinds[i % stage.Kinds.Length];
            plans[i] = stage.Plan(kind, BioOperation.Write, (long)i * size, (long)i * apart, size);
            stage.Put(kind, plans[i].Offset, Bytes(i, size));
        }

        int done = 0;
        stage.World.Eventually(
            () =>
            {
                int taken = lane.Submit(plans.AsSpan(done));
                done += taken;
                lane.Commit();
                lane.Poll();
                return done == count;
            },
            "Q1",
            $"of {count} bios only {done} were taken, although those before them have ended.");
        lane.Finish("Q1");
        stage.World.Check(lane.Requests.Count == count, "Q1", $"{lane.Requests.Count} bios were taken of {count}.");
        foreach (BlockRequest request in lane.Requests)
            stage.World.Check(request.Status == Errno.Ok, "Q1", $"a {request} that was taken when there was room again ended with {request.Status}.");
        if (!Can(BlockDeviceCapabilities.KeepsData))
            return;
        for (int i = 0; i < count; i++)
            stage.CheckRead(lane, BioBacking.Pages, plans[i].Sector << 9, 1 << 20, Bytes(i, size), "Q1");
    });

    /// <summary>So many bios as Room says are taken.</summary>
    [Fact]
    public virtual void Q1_room_that_was_promised_is_there() => OnStage(stage =>
    {
        BlockLane lane = stage.Lane(16);
        BioPlan read = stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.BioOf(4096));
        SkipUnless(lane.Room() > 0, "The queue does not say how much room it has.");
        for (int round = 0; round < 40; round++)
        {
            int room = Math.Min(lane.Room(), lane.Bios.Free);
            if (room > 0)
            {
                BioPlan[] plans = [.. Enumerable.Repeat(read, round % 3 == 0 ? room : (room + 1) / 2)];
                int taken = lane.Submit(plans);
                stage.World.Check(taken == plans.Length, "Q1", $"Room said {room}, Submit was given {plans.Length} bios and took {taken}.");
            }

            if (round % 3 != 0)
                continue;
            lane.Commit();
            lane.Poll(round % 7 + 1);
        }

        lane.Finish();
    });

    /// <summary>A poll ends at most as many as it is told; a set of devices, which hands the number on to its members, may end more, and says how many.</summary>
    [Fact]
    public virtual void Q2_a_poll_ends_no_more_than_it_is_told() => OnStage(stage =>
    {
        const int Count = 12;
        BlockLane lane = stage.Lane();
        BioPlan read = stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.BioOf(512));
        for (int max = 1; max <= 5; max += 2)
        {
            int most = Can(BlockDeviceCapabilities.Stacked) ? Count : max;
            lane.Do("Q2", [.. Enumerable.Repeat(read, Count)]);
            int before = Ends(lane);
            int taken = lane.Submit([.. Enumerable.Repeat(read, Count)]);
            lane.Commit();
            stage.World.Eventually(
                () =>
                {
                    int ended = Ends(lane);
                    int count = lane.Poll(max);
                    stage.World.Check(count >= 0 && count <= most, "Q2", $"Poll({max}) answered {count}.");
                    stage.World.Check(Ends(lane) - ended <= most, "Q2", $"Poll({max}) ended {Ends(lane) - ended} bios.");
                    return Ends(lane) - before == taken;
                },
                "N8",
                $"of {taken} bios {Ends(lane) - before} have ended.");
        }
    });

    /// <summary>A commit and a poll with nothing to do do nothing, and a queue that was not used can be closed.</summary>
    [Fact]
    public virtual void Q2_a_commit_and_a_poll_with_nothing_to_do_do_nothing() => OnStage(stage =>
    {
        for (int round = 0; round < 24; round++)
        {
            BlockLane lane = stage.Lane();
            lane.Commit();
            stage.World.Check(lane.Poll() == 0, "Q2", "a poll of a queue without bios answered that some have ended.");
            if (round % 2 == 0)
            {
                lane.Do("Q2", stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.Block));
                lane.Commit();
                stage.World.Check(lane.Poll() == 0, "Q2", "a poll of a queue whose bios have all ended answered that some have.");
            }

            stage.Close(lane);
        }
    });

    /// <summary>Until the device has moved the data of a bio it has not ended.</summary>
    [Fact]
    public virtual void Q2_a_bio_has_not_ended_while_the_device_works_at_it() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.MovesData);
        BlockLane lane = stage.Lane();
        using var hold = new DmaHold(stage.World.Fabric, BlockDeviceStage.PagesName);
        int polls = 0;
        int thread = 0;
        IActor owner = stage.World.Actors.Start("owner", () =>
        {
            Volatile.Write(ref thread, Environment.CurrentManagedThreadId);
            lane.Submit(stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.BioOf(4096)));
            lane.Commit();
            stage.World.Eventually(
                () =>
                {
                    lane.Poll();
                    Interlocked.Increment(ref polls);
                    return lane.InFlight == 0;
                },
                "N8",
                "a read does not end.");
            lane.CheckEndedOnce();
        });
        stage.World.Eventually(() => hold.IsHeld || owner.HasEnded, "N8", "the device did not begin to move the data of a read.");

        // The owner polls while the device waits, where the device has a thread of its own; a device without one works in the owner's calls.
        int seen = Volatile.Read(ref polls);
        stage.World.Eventually(
            () => hold.Holds(Volatile.Read(ref thread)) || Volatile.Read(ref polls) > seen + 2 || owner.HasEnded,
            "N8",
            "a poll does not return while the device moves the data of a read.");
        if (owner.HasEnded)
            owner.Join();
        stage.World.Check(hold.IsHeld && lane.InFlight == 1, "Q2", "a read ended while the device was moving its data, or before.");

        hold.Release();
        owner.Join();
    });

    /// <summary>Two contexts, each with a queue and a thread of its own, at once.</summary>
    [Fact]
    public virtual void Q2_two_queues_of_two_contexts_do_not_disturb_each_other() => OnStage(stage =>
    {
        const int Rounds = 150;
        int size = stage.BioOf(4096);
        BlockLane[] lanes = [stage.Lane(8), stage.Lane(8)];
        _ = stage.Pages;
        if (stage.Kinds.Length > 1)
            _ = stage.Token;
        IActor[] owners = [stage.World.Actors.Start("first", () => Work(0)), stage.World.Actors.Start("second", () => Work(1))];
        stage.World.JoinAll(owners, () => lanes[0].Requests.Count + lanes[1].Requests.Count, "Q2", "of two queues that are used at once one stands still.");

        void Work(int number)
        {
            BlockLane lane = lanes[number];
            var random = new Random(number);
            for (int round = 0; round < Rounds; round++)
            {
                BioBacking kind = stage.Kinds[round % stage.Kinds.Length];
                var plans = new BioPlan[random.Next(1, 8)];
                for (int i = 0; i < plans.Length; i++)
                {
                    plans[i] = stage.Plan(kind, BioOperation.Write, ((number * 8) + i) * (long)size, ((number * 8) + i) * (long)size, size);
                    stage.Put(kind, plans[i].Offset, Bytes((number << 16) + (round << 4) + i, size));
                }

                lane.Do("Q2", plans);
                for (int i = 0; i < plans.Length; i++)
                    plans[i] = plans[i] with { Operation = BioOperation.Read, Offset = plans[i].Offset + (16L * size) };
                lane.Do("Q2", plans);
                for (int i = 0; i < plans.Length && Can(BlockDeviceCapabilities.KeepsData); i++)
                    stage.CheckSame(Bytes((number << 16) + (round << 4) + i, size), stage.Get(kind, plans[i].Offset, size), "Q2", $"what a {plans[i]} has brought while another context used the device");
            }
        }
    });

    /// <summary>Whoever sleeps until the device interrupts is woken, for one bio in flight and for many.</summary>
    [Fact]
    public virtual void Q3_no_completion_is_without_a_call_after_it() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.Interrupts);
        BlockLane lane = stage.Lane();
        long calls = 0;
        bool has = stage.World.Expect("Q3", "When interrupts were asked for", () => lane.Queue.TryEnableInterrupts(() => Interlocked.Increment(ref calls)));
        stage.World.Check(has, "Q3", "the fixture lists the capability Interrupts, and TryEnableInterrupts answered that there are none.");
        BioPlan read = stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.BioOf(4096));
        using DmaGate? gate = Can(BlockDeviceCapabilities.MovesData) ? new DmaGate(stage.World.Fabric, BlockDeviceStage.PagesName) : null;
        for (int round = 0; round < 200; round++)
        {
            BioPlan[] reads = [.. Enumerable.Repeat(read, round % 4 == 3 ? 16 : 1)];
            stage.World.Eventually(() => lane.Submit(reads) > 0, "Q1", "the queue takes nothing although nothing is in flight.");
            lane.Commit();
            while (lane.InFlight != 0)
            {
                // As a ring does: look, and sleep until a call that has begun after the look.
                gate?.Await();
                long seen = Interlocked.Read(ref calls);
                if (lane.Poll() != 0 || lane.InFlight == 0)
                    continue;
                stage.World.Eventually(
                    () =>
                    {
                        if (Interlocked.Read(ref calls) != seen)
                            return true;
                        gate?.Pass();
                        return false;
                    },
                    "Q3",
                    $"{lane.InFlight} bios are in flight, a poll has found none that has ended, and no interrupt came.");
            }
        }

        lane.CheckEndedOnce();
    });

    /// <summary>A flush ends well, alone and behind writes.</summary>
    [Fact]
    public virtual void Q4_a_flush_succeeds() => OnStage(stage =>
    {
        BlockLane lane = stage.Lane();
        stage.World.Check(lane.Try(BioPlan.Flush) == Errno.Ok, "Q4", $"a flush ended with {lane.Requests[^1].Status}.");
        BioPlan write = stage.Plan(BioBacking.Pages, BioOperation.Write, 0, 0, stage.BioOf(4096));
        lane.Do("Q4", write, BioPlan.Flush, write, BioPlan.Flush, BioPlan.Flush);
    });

    /// <summary>A write-protected device says so, refuses writes and goes on reading.</summary>
    [Fact]
    public virtual void Q4_a_read_only_device_refuses_writes_and_changes_nothing() => OnStage(
        world =>
        {
            SkipUnless(BlockDeviceCapabilities.ReadOnly);
            return Fixture.OpenReadOnly(world);
        },
        stage =>
        {
            int size = stage.BioOf(4096);
            stage.World.Check(stage.Device.IsReadOnly, "Q4", "the fixture has opened a write-protected device, and IsReadOnly is false.");
            BlockLane lane = stage.Lane();
            lane.Do("Q4", stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, size));
            byte[] before = stage.Get(BioBacking.Pages, 0, size);
            foreach (BioBacking kind in stage.Kinds)
            {
                stage.Put(kind, 8192, Bytes(1, size));
                Errno status = lane.Try(stage.Plan(kind, BioOperation.Write, 0, 8192, size));
                stage.World.Check(status == Errno.EROFS, "Q4", $"a write to a read-only device ended with {status} and not with EROFS.");
            }

            stage.World.Check(lane.Try(BioPlan.Flush) == Errno.Ok, "Q4", $"a flush of a read-only device ended with {lane.Requests[^1].Status}.");
            if (Can(BlockDeviceCapabilities.KeepsData))
                stage.CheckRead(lane, BioBacking.Pages, 0, 16384, before, "Q4");
        });

    private static int Ends(BlockLane lane) => lane.Requests.Sum(static r => r.Ends);
}
