using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;

namespace DmaBufIo.ContractTests;

/// <content>Locks: who waits for whom when the reservation lock is held, and several locks at once.</content>
public abstract partial class ExporterContract
{
    /// <summary>Jobs end while somebody holds the lock of their buffer and waits for them.</summary>
    [Fact]
    public virtual void F4_everyone_may_wait_for_jobs_with_the_lock_held() => OnStage(
        static stage =>
        {
            OnBusyBuffer(stage, () => stage.WaitHoldingLock(stage.Buffer, "F4", $"A job of {stage.Buffer.Name} does not end while its lock is held."));
        },
        LargeSize,
        ExporterCapabilities.Jobs);

    /// <summary>Jobs end while somebody holds the lock of another buffer of the exporter, and somebody else waits for that lock.</summary>
    [Fact]
    public virtual void F3_jobs_end_while_the_lock_of_another_buffer_is_held() => OnStage(
        stage =>
        {
            ExporterTarget other = stage.Create("other", s_size);
            IActor stuck;
            using (other.Buffer.Reservation.Lock())
            {
                stuck = stage.World.Actors.Start("waits for the lock", () =>
                {
                    if (Can(ExporterCapabilities.Moves))
                        other.Move();
                    else
                        stage.Compute.Fill(other.Buffer, 0, 4096, 1);
                });
                stuck.UntilBlocked();
                IActor submitter = stage.World.Actors.Start("submitter", () =>
                {
                    for (int i = 0; i < 4; i++)
                    {
                        Submit(stage, () => stage.Compute.Fill(stage.Buffer, 0, LargeSize, 7));
                        Submit(stage, () => stage.Compute.Hash(stage.Buffer, 0, 4096));
                    }
                });
                stage.World.Eventually(() => submitter.HasEnded, "F3", $"A job on {stage.Buffer.Name} cannot be submitted while the lock of {other.Buffer.Name} is held.");
                submitter.Join();
                stage.WaitHoldingLock(stage.Buffer, "F3", $"A job on {stage.Buffer.Name} does not end while the lock of {other.Buffer.Name} is held.");
            }

            stuck.Join();
        },
        LargeSize,
        ExporterCapabilities.Jobs);

    /// <summary>Map is called with the lock held: what it waits for must not need the lock (D1).</summary>
    [Fact]
    public virtual void F3_a_map_waits_for_nothing_that_needs_the_lock() => OnStage(
        static stage =>
        {
            RawDevice device = stage.Attach();
            for (int i = 0; i < 4; i++)
            {
                Submit(stage, () => stage.Compute.Fill(stage.Buffer, 0, LargeSize, 9));
                IActor mapping = stage.World.Actors.Start("importer", () => device.Unmap(device.Map()));
                stage.World.Eventually(() => mapping.HasEnded, "F3", "Map does not return: it is called with the reservation lock held, and waits for something that needs the lock.");
                mapping.Join();
            }
        },
        LargeSize,
        ExporterCapabilities.Jobs);

    /// <summary>A move needs no more than the buffer's lock: it ends while other buffers' locks are held.</summary>
    [Fact]
    public virtual void F6_a_move_ends_while_the_lock_of_another_buffer_is_held() => OnStage(
        static stage =>
        {
            ExporterTarget other = stage.Create("other", s_size);
            using ReservationGuard guard = other.Buffer.Reservation.Lock();
            IActor mover = stage.World.Actors.Start("mover", () => stage.Move());
            stage.World.Eventually(() => mover.HasEnded, "F6", $"{stage.Buffer.Name} does not move while the lock of {other.Buffer.Name} is held.");
            mover.Join();
        },
        needs: ExporterCapabilities.Moves);

    /// <summary>A job over two buffers takes their locks in one acquire context, and backs off when it is wounded.</summary>
    [Fact]
    public virtual void F5_a_job_over_two_buffers_gives_way_to_an_older_locker() => OnStage(
        static stage =>
        {
            ExporterTarget other = stage.Create("other", s_size);
            foreach ((DmaBuf first, DmaBuf second) in new[] { (stage.Buffer, other.Buffer), (other.Buffer, stage.Buffer) })
            {
                var older = new AcquireContext();
                IActor submitter;
                using (first.Reservation.Lock(older))
                {
                    submitter = stage.World.Actors.Start("job", () => Submit(stage, () => stage.Compute.Copy(stage.Buffer, 0, other.Buffer, 0, 4096), "F5"));
                    submitter.UntilBlocked();
                    using var limit = new CancellationTokenSource(Hang.Limit);
                    Errno status = second.Reservation.TryLock(out ReservationGuard guard, older, limit.Token);
                    if (status != Errno.Ok)
                    {
                        throw stage.World.Broken(
                            "F5",
                            $"a job over {stage.Buffer.Name} and {other.Buffer.Name} holds the lock of {second.Name}, waits for that of {first.Name}, and does not give way to an older acquire context that holds it ({status}).{Environment.NewLine}{Hang.State()}");
                    }

                    guard.Dispose();
                }

                stage.World.Eventually(() => submitter.HasEnded, "F5", "a job that had to give way is not submitted when the locks are free.");
                submitter.Join();
            }
        },
        needs: ExporterCapabilities.Jobs);

    /// <summary>Jobs over the same buffers in different orders, from several threads: none waits for ever.</summary>
    [Fact]
    public virtual void F5_jobs_over_the_same_buffers_in_different_orders_all_end() => OnStage(
        static stage =>
        {
            ExporterTarget other = stage.Create("other", s_size);
            long done = 0;
            void Work(DmaBuf from, DmaBuf to)
            {
                var jobs = new List<IComputeJob>();
                for (int i = 0; i < 200; i++)
                {
                    jobs.Add(Submit(stage, () => stage.Compute.Copy(from, 0, to, 4096, 4096), "F5"));
                    Interlocked.Increment(ref done);
                }

                foreach (IComputeJob job in jobs)
                {
                    Done(stage, job);
                    Interlocked.Increment(ref done);
                }
            }

            IActor[] users =
            [
                stage.World.Actors.Start("there", () => Work(stage.Buffer, other.Buffer)),
                stage.World.Actors.Start("back", () => Work(other.Buffer, stage.Buffer)),
            ];
            stage.World.JoinAll(users, () => Interlocked.Read(ref done), "F5", "jobs over two buffers, in one order and in the other, wait for each other.");
        },
        needs: ExporterCapabilities.Jobs);

    /// <summary>A job over two buffers ends the maps of both before it waits for the requests of either.</summary>
    [Fact]
    public virtual void T17_a_job_over_two_buffers_ends_the_maps_of_both_before_it_waits_for_either() => OnStage(
        static stage =>
        {
            ExporterTarget other = stage.Create("other", s_size);
            PuppetImporter[] importers = [stage.Import("one", isNear: true), stage.Import("two", other.Buffer, isNear: true)];
            foreach (PuppetImporter held in importers)
            {
                PuppetImporter idle = importers.Single(i => i != held);
                foreach (PuppetImporter importer in importers)
                {
                    importer.Write(0, 4096);
                    importer.Run("T17", "a request before a job");
                }

                using var hold = new DeviceHold(stage.World.Fabric, held.Device.Name);
                IActor owner = HeldRead(stage, held, hold, 0, 4096);
                IActor submitter = stage.World.Actors.Start("job", () => Submit(stage, () => stage.Compute.Copy(stage.Buffer, 0, other.Buffer, 0, 4096), "T17"));
                submitter.UntilBlocked();
                stage.World.Check(
                    held.Token.LiveGeneration is null,
                    "T17",
                    $"a job over two buffers was submitted, and device {held.Device.Name}, which has a request on one of them, was not told.");
                stage.World.Check(
                    idle.Token.LiveGeneration is null,
                    "T17",
                    $"a job over two buffers waits for the requests of {held.Device.Name} on one of them, and {idle.Device.Name} still has a live map of the other.");
                hold.Release();
                owner.Join();
                submitter.Join();
                stage.Settle();
                stage.Settle(other.Buffer);
            }
        },
        needs: ExporterCapabilities.Jobs);

    /// <summary>Requests of two devices on two buffers, in flight at once: a job over both ends, and so do they.</summary>
    [Fact]
    public virtual void T17_a_job_over_two_buffers_waits_for_the_requests_of_both() => OnStage(
        static stage =>
        {
            ExporterTarget other = stage.Create("other", s_size);
            byte[][] expected = [Bytes(40, s_size), Bytes(41, s_size)];
            stage.Fill(expected[0]);
            stage.Fill(expected[1], other.Buffer);
            PuppetImporter[] importers = [stage.Import("one", isNear: true), stage.Import("two", other.Buffer, isNear: true)];
            for (int i = 0; i < importers.Length; i++)
            {
                byte[] brought = Bytes(42 + i, 4096);
                brought.CopyTo(importers[i].Device.Store);
                brought.CopyTo(expected[i], 4096 * i);
                importers[i].Device.Hold = true;
                importers[i].Read(4096 * i, 4096);
                importers[i].Ring.Submit();
            }

            IActor submitter = stage.World.Actors.Start("job", () => Submit(stage, () => stage.Compute.Copy(stage.Buffer, 0, other.Buffer, 8192, 4096), "T17"));
            submitter.UntilBlocked();
            for (int i = importers.Length - 1; i >= 0; i--)
            {
                stage.World.Check(!submitter.HasEnded, "T17", $"a job was submitted while a request of {importers[i].Device.Name} was using one of its buffers.");
                importers[i].Device.Finish();
                importers[i].Check(importers[i].Reap(1, "T17", "a request under a job")[0], "T17", "a request under a job");
            }

            stage.World.Eventually(() => submitter.HasEnded, "T17", "a job is not submitted although the requests on its buffers have ended.");
            submitter.Join();
            stage.Settle();
            stage.Settle(other.Buffer);
            expected[0].AsSpan(0, 4096).CopyTo(expected[1].AsSpan(8192));
            stage.CheckContents(expected[0], "T17", "after a job under requests");
            stage.CheckContents(expected[1], "T17", "after a job under requests", other.Buffer);
        },
        needs: ExporterCapabilities.Jobs);

    /// <summary>Runs something with the lock held while a job is still under way.</summary>
    private static void OnBusyBuffer(ExporterStage stage, Action act)
    {
        for (int jobs = 4; jobs <= 1024; jobs *= 2)
        {
            for (int i = 0; i < jobs; i++)
                Submit(stage, () => stage.Compute.Hash(stage.Buffer, 0, LargeSize));
            using ReservationGuard guard = stage.Buffer.Reservation.Lock();
            if (stage.Buffer.Reservation.IsIdle(FenceUsage.Bookkeep))
                continue;
            act();
            return;
        }

        Assert.Skip("The exporter's jobs end before anybody can wait for one.");
    }
}
