using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.ContractTests;

/// <content>Everything is given back on every path (N6), and reset and removal end every bio once (N8).</content>
public abstract partial class BlockDeviceContract
{
    private const int Depth = 16;

    /// <summary>After hundreds of bios whose DMA fails, a queue takes as many as before, and they move their data.</summary>
    [Fact]
    public virtual void N6_after_many_failed_transfers_a_queue_takes_its_full_depth() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.MovesData);
        BlockLane lane = stage.Lane(Depth);
        BioOperation[] operations = Can(BlockDeviceCapabilities.Redundant) ? [BioOperation.Read] : [BioOperation.Read, BioOperation.Write];
        int size = stage.BioOf(8192);
        int before = FullDepth(stage, lane);
        int mappings = Mappings(stage);
        stage.World.Fabric.OnDma = static dma => dma.Purpose is BlockDeviceStage.MapName or BlockDeviceStage.PagesName ? Errno.EFAULT : Errno.Ok;
        foreach (BioBacking kind in stage.Kinds)
        {
            foreach (BioOperation operation in operations)
            {
                for (int round = 0; round < Depth * 3; round++)
                {
                    int first = lane.Requests.Count;
                    lane.Submit([.. Enumerable.Range(0, 3).Select(i => stage.Plan(kind, operation, (long)i * size, 0, size))]);
                    lane.Finish("N6");
                    foreach (BlockRequest request in lane.Requests.Skip(first))
                        stage.World.Check(request.Status != Errno.Ok, "N6", $"a {request} ended with Ok although the device could not reach its memory.");
                }
            }
        }

        stage.World.Fabric.OnDma = null;
        CheckGivenBack(stage, lane, before, mappings, "bios whose DMA failed");
    });

    /// <summary>After many bios whose memory could not be mapped, a queue takes as many as before.</summary>
    [Fact]
    public virtual void N6_after_many_failed_mappings_a_queue_takes_its_full_depth() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.MovesData);
        BlockLane lane = stage.Lane(Depth);
        int before = FullDepth(stage, lane);
        int mappings = Mappings(stage);
        stage.World.Fabric.OnMap = static mapping =>
        {
            if (mapping.Purpose == BlockDeviceStage.PagesName)
                throw new DmaBufIoException(Errno.ENOMEM, "ContractTests", mapping.Device, "the contract lets mappings fail", "Nothing: it ends by itself");
        };
        BioPlan read = stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.BioOf(4096));
        for (int round = 0; round < Depth * 4; round++)
        {
            Errno status = lane.Try(read);
            stage.World.Check(status != Errno.Ok, "N6", $"a {read} ended with Ok although its memory could not be mapped.");
        }

        stage.World.Fabric.OnMap = null;
        CheckGivenBack(stage, lane, before, mappings, "bios whose memory could not be mapped");
    });

    /// <summary>A reset with bios in flight, one of them in the middle of its data: each ends once, and the queue goes on.</summary>
    [Fact]
    public virtual void N8_a_reset_ends_every_bio_once_and_the_queue_goes_on() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.Reset);
        const int Rounds = 12;
        BlockLane lane = stage.Lane();
        int size = stage.BioOf(4096);
        foreach (BioBacking kind in stage.Kinds)
        {
            BioPlan read = stage.Plan(kind, BioOperation.Read, 0, 0, size);
            for (int round = 0; round < Rounds; round++)
            {
                DmaHold? hold = Can(BlockDeviceCapabilities.MovesData)
                    ? new DmaHold(stage.World.Fabric, kind == BioBacking.Map ? BlockDeviceStage.MapName : BlockDeviceStage.PagesName)
                    : null;
                bool isResetting = false;
                int first = lane.Requests.Count;
                IActor owner = stage.World.Actors.Start("owner", () =>
                {
                    lane.Submit([.. Enumerable.Repeat(read, 16)]);
                    lane.Finish();
                });
                if (hold is not null)
                    stage.World.Eventually(() => hold.IsHeld || owner.HasEnded, "N8", "the device did not begin to move the data of a read.");
                IActor resetter = stage.World.Actors.Start("resetter", () =>
                {
                    Volatile.Write(ref isResetting, true);
                    stage.Opened.Root.ResetAll();
                });
                stage.World.Eventually(() => Volatile.Read(ref isResetting), "N8", "the reset did not begin.");
                hold?.Dispose();
                Join(stage, owner, "the bios that were in flight when the device was reset have not all ended");
                Join(stage, resetter, "the reset has not come to its end");
                lane.CheckEndedOnce();
                foreach (BlockRequest request in lane.Requests.Skip(first))
                    stage.World.Check(request.Ends == 1 && request.Status is Errno.Ok or Errno.ECANCELED, "N8", $"a {request} that a reset hit ended with {request.Status}.");
            }

            CheckWorks(stage, lane, kind);
        }
    });

    /// <summary>A removal with bios in flight: each ends once, with its data or an error, and later ones end with <c>ENODEV</c>.</summary>
    [Fact]
    public virtual void N8_a_removal_ends_every_bio_once() => Remove("N8", static stage => [.. stage.Kinds]);

    /// <summary>After a removal the device says that it is gone, and so do its bios.</summary>
    [Fact]
    public virtual void Q4_a_removed_device_answers_ENODEV() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.Remove);
        BlockLane lane = stage.Lane();
        BioPlan read = stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.BioOf(4096));
        lane.Do("Q4", read);
        stage.Opened.Dispose();
        stage.World.Check(stage.Device.IsRemoved, "Q4", "the device was closed, and IsRemoved is false.");
        CheckGone(stage, lane, read);
        Errno? refused = null;
        try
        {
            new BlockLane(stage.World, stage.Device, 8).Dispose();
        }
        catch (DmaBufIoException e)
        {
            refused = e.Errno;
        }

        stage.World.Check(refused == Errno.ENODEV, "Q4", $"a queue of a removed device was {(refused is null ? "opened" : $"refused with {refused}")}; it is refused with ENODEV.");
    });

    private void Remove(string rule, Func<BlockDeviceStage, BioBacking[]> kinds)
    {
        SkipUnless(BlockDeviceCapabilities.Remove);
        for (int round = 0; round < 4; round++)
        {
            int turn = round;
            OnStage(stage =>
            {
                BioBacking[] all = kinds(stage);
                BioBacking kind = all[turn % all.Length];
                BlockLane lane = stage.Lane();
                BioPlan read = stage.Plan(kind, BioOperation.Read, 0, 0, stage.BioOf(4096));
                lane.Do(rule, read);
                int first = lane.Requests.Count;
                bool isStopping = false;
                IActor owner = stage.World.Actors.Start("owner", () =>
                {
                    // Until requests begin to fail: under load all the time.
                    while (!Volatile.Read(ref isStopping) && lane.Requests.TakeLast(64).All(static r => r.Status == Errno.Ok))
                    {
                        if (lane.Submit([.. Enumerable.Repeat(read, 8)]) == 0 && lane.LastMapStatus != Errno.Ok)
                            break;
                        lane.Commit();
                        lane.Poll();
                    }

                    lane.Finish();
                });
                stage.World.Eventually(() => owner.HasEnded || lane.InFlight > 0, rule, "the device took no bios.");
                IActor remover = stage.World.Actors.Start("remover", stage.Opened.Dispose);
                Join(stage, remover, "the removal has not come to its end");
                Volatile.Write(ref isStopping, true);
                Join(stage, owner, "the bios that were in flight when the device was removed have not all ended");
                lane.CheckEndedOnce();
                foreach (BlockRequest request in lane.Requests.Skip(first))
                    stage.World.Check(request.Ends == 1, rule, $"a {request} was in flight when the device was removed, and has ended {request.Ends} times.");
                CheckGone(stage, lane, stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.BioOf(4096)));
            });
        }
    }

    private static void CheckGone(BlockDeviceStage stage, BlockLane lane, BioPlan read)
    {
        foreach (BioPlan plan in new[] { read, BioPlan.Flush })
        {
            Errno status = lane.Try(plan);
            stage.World.Check(status == Errno.ENODEV, "Q4", $"a {plan} after the device was removed ended with {status} and not with ENODEV.");
        }
    }

    /// <summary>A hang is told as what it is.</summary>
    private static void Join(BlockDeviceStage stage, IActor actor, string what)
    {
        try
        {
            actor.Join();
        }
        catch (TimeoutException e)
        {
            throw stage.World.Broken("N8", $"{what}. {e.Message}", e);
        }
    }

    /// <summary>How many bios a queue takes before one has ended.</summary>
    private static int FullDepth(BlockDeviceStage stage, BlockLane lane)
    {
        BioPlan read = stage.Plan(BioBacking.Pages, BioOperation.Read, 0, 0, stage.BioOf(512));
        int taken = 0;
        while (taken < 200 && lane.Submit(read) == 1)
            taken++;
        lane.Finish("N6");
        return taken;
    }

    private static int Mappings(BlockDeviceStage stage)
    {
        if (stage.Kinds.Length > 1)
            stage.Lane().Do("N6", stage.Plan(BioBacking.Map, BioOperation.Read, 0, 0, stage.BioOf(512)));
        return stage.World.Fabric.Mappings.Count;
    }

    private void CheckGivenBack(BlockDeviceStage stage, BlockLane lane, int before, int mappings, string after)
    {
        int left = stage.World.Fabric.Mappings.Count;
        stage.World.Check(left <= mappings, "N6", $"after {after} {left - mappings} mappings are left of them.");
        int now = 0;

        // A set takes as many as its members have room for at the moment, and more than it was asked for; a device may have ended some meanwhile.
        for (int i = 0; i < 16 && now < Math.Min(before, Depth); i++)
            now = FullDepth(stage, lane);
        stage.World.Check(now >= Math.Min(before, Depth), "N6", $"the queue took {before} bios at once, and after {after} it takes {now}.");
        CheckWorks(stage, lane, BioBacking.Pages);
    }

    private void CheckWorks(BlockDeviceStage stage, BlockLane lane, BioBacking kind)
    {
        byte[] data = Bytes(99, stage.BioOf(8192));
        stage.Write(lane, kind, 0, 4096, data, "N8");
        if (Can(BlockDeviceCapabilities.KeepsData))
            stage.CheckRead(lane, kind, 0, 4096, data, "N8");
    }
}
