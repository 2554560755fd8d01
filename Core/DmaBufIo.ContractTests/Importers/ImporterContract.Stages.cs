using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>The owner of the memory moves it while requests run, at each stage of a request (T14, T18, F7).</content>
public abstract partial class ImporterContract
{
    /// <summary>A move waits for the device's DMA, and the device does not go on with the old place after it (F7, T18).</summary>
    [Fact]
    public virtual void T18_a_move_waits_until_the_device_has_finished_with_the_memory() => InBothDesigns(stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData);
        using var hold = new DmaHold(stage.World.Fabric, stage.Buffer.Buffer.Name);
        MoveUnderHold(stage, hold, requests: 1, stage.Blocks(4096));
    });

    /// <summary>Two requests, one of which has ended: the other keeps the buffer in place.</summary>
    [Fact]
    public virtual void T18_a_move_waits_for_every_request_and_not_only_for_the_first() => InBothDesigns(stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData);
        int length = stage.Blocks(4096);
        using var hold = new DmaHold(stage.World.Fabric, stage.Buffer.Buffer.Name, skip: length);
        MoveUnderHold(stage, hold, requests: 3, length);
    });

    /// <summary>A request that lies in several pieces of memory: the device is held in the last of them.</summary>
    [Fact]
    public virtual void T18_a_move_waits_for_the_last_piece_of_a_request() => InBothDesigns(
        stage =>
        {
            SkipUnless(ImporterCapabilities.MovesData);
            int length = stage.Blocks(16384);
            using var hold = new DmaHold(stage.World.Fabric, stage.Buffer.Buffer.Name, skip: length - 1);
            MoveUnderHold(stage, hold, requests: 1, length);
        },
        [.. Enumerable.Repeat(4096L, 16)]);

    /// <summary>The ring's own thread moves the buffer while the device is in the middle of its DMA: it waits for what only it would reap, and reaps it.</summary>
    [Fact]
    public virtual void T14_the_rings_own_thread_can_move_the_buffer_under_its_own_requests() => InBothDesigns(stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData);
        const int Requests = 8;
        int length = stage.Blocks(4096);
        byte[] data = Bytes(1, Requests * length);
        stage.Give(data, length);
        using var hold = new DmaHold(stage.World.Fabric, stage.Buffer.Buffer.Name);
        int thread = 0;
        bool hasMoved = false;
        IActor owner = stage.World.Actors.Start("owner", () =>
        {
            Volatile.Write(ref thread, Environment.CurrentManagedThreadId);
            Reads(stage, Requests, length);
            stage.Ring.Submit();

            // The map of such a file is made when the device gets to the request: before that a move finds nothing to wait for.
            if (Can(ImporterCapabilities.Paged | ImporterCapabilities.WorksAlone))
                Hang.Until(() => hold.IsHeld);
            stage.Buffer.Move();
            Volatile.Write(ref hasMoved, true);
            foreach (RingCompletion ended in stage.ReapEach(Requests, "N8"))
                stage.Ended(ended, length, "T14", "a read under which its own thread moved the buffer");
        });
        stage.World.Eventually(() => hold.IsHeld || owner.HasEnded, "N8", "the device did not begin to move the data of a request.");

        // A device without a thread works on the ring's: then there is nobody to wait for.
        if (!owner.HasEnded && !hold.Holds(Volatile.Read(ref thread)) && (!Can(ImporterCapabilities.Paged) || Can(ImporterCapabilities.WorksAlone)))
        {
            owner.UntilBlocked();
            stage.World.Check(!Volatile.Read(ref hasMoved), "T18", "the map's reference was dropped while the device was moving the request's data.");
        }

        hold.Release();
        stage.World.Ends(owner, "T14", "a move by the ring's own thread did not come to its end.");
        CheckPrefix(stage, data, "T18", "reads under which their own thread moved the buffer");
    });

    /// <summary>The device is done, and nobody has looked at its completions.</summary>
    [Fact]
    public virtual void T14_a_move_reaps_what_the_device_has_completed_and_nobody_has_looked_at() => WhoeverMoves((stage, elsewhere) =>
    {
        SkipUnless(ImporterCapabilities.MovesData | ImporterCapabilities.WorksAlone);
        const int Requests = 8;
        int length = stage.Blocks(4096);
        byte[] data = Bytes(2, Requests * length);
        stage.Give(data, length);
        long moved = 0;
        stage.World.Fabric.AfterDma = dma =>
        {
            if (dma.Purpose == "contract")
                Interlocked.Add(ref moved, dma.Length);
        };
        Reads(stage, Requests, length);
        stage.Ring.Submit();
        stage.World.Eventually(() => Interlocked.Read(ref moved) >= length, "N8", "the device has not moved the data of a request.");
        stage.World.Fabric.AfterDma = null;
        stage.Move(elsewhere);
        foreach (RingCompletion ended in stage.ReapEach(Requests, "T14"))
            stage.Ended(ended, length, "T14", "a read that the device had done when the buffer moved");
        CheckPrefix(stage, data, "T18", "reads that the device had done when the buffer moved");
    });

    /// <summary>The owner of the ring has submitted and does something else, for ever: somebody else's move ends.</summary>
    [Fact]
    public virtual void T14_somebody_elses_move_ends_though_nobody_reaps() => InBothDesigns(stage =>
    {
        const int Requests = 8;
        int length = stage.Blocks(4096);
        byte[] data = Bytes(3, Requests * length);
        for (int round = 0; round < 3; round++)
        {
            stage.Give(data, length);
            Reads(stage, Requests, length);
            stage.Ring.Submit();
            stage.Move(elsewhere: true);
            stage.World.Eventually(() => stage.Buffer.OldPlaces == 0, "T8", "a place that the buffer has left stays mapped.");
            foreach (RingCompletion ended in stage.ReapEach(Requests, "T14"))
                stage.Ended(ended, length, "T14", "a read under which somebody else moved the buffer");
            CheckPrefix(stage, data, "T18", "reads under which somebody else moved the buffer");
        }
    });

    /// <summary>The owner of the memory comes while a map is being made: the request goes on with that map, and then gives it up.</summary>
    [Fact]
    public virtual void T7_a_move_that_comes_while_a_map_is_made_finds_that_map() => InBothDesigns(stage =>
    {
        int length = stage.Blocks(4096);
        for (int i = 0; i < 3; i++)
        {
            IActor? mover = null;
            stage.Buffer.InMap = (_, _) =>
            {
                // It waits for the lock that the making of the map holds.
                if (mover is not null)
                    return;
                mover = stage.World.Actors.Start("mover", () => stage.Buffer.Move());
                mover.UntilBlocked();
            };
            byte[] data = Bytes(i, length);
            stage.Give(data, length);
            stage.Read(0, 0, length);
            stage.Ended(stage.Run("T7")[0], length, "T7", "a read under whose map's making the buffer was to move");
            stage.World.Ends(mover!, "T14", "a move that came while a map was made did not come to its end.");
            stage.Buffer.InMap = null;
            CheckPrefix(stage, data, "T7", "a read under whose map's making the buffer was to move");
        }
    });

    /// <summary>The owner of the memory, and a request, come while an old map is being unmapped.</summary>
    [Fact]
    public virtual void T8_a_request_and_a_move_that_come_while_a_map_is_unmapped_wait_for_it() => InBothDesigns(stage =>
    {
        int length = stage.Blocks(4096);

        // Not disposed: a worker that unmaps may have come for them when the fact is over.
        var goOn = new ManualResetEventSlim();
        var isUnmapping = new ManualResetEventSlim();
        stage.CheckRead(0, 0, Bytes(1, length));
        stage.Buffer.InUnmap = _ =>
        {
            isUnmapping.Set();
            goOn.Wait(Hang.Limit);
        };
        try
        {
            stage.Buffer.Move();
            stage.World.Eventually(() => isUnmapping.IsSet, "T8", "the map of a place that was left is not unmapped.");
            byte[] data = Bytes(2, length);
            stage.Give(data, length);
            IActor owner = stage.World.Actors.Start("owner", () =>
            {
                stage.Read(0, 0, length);
                stage.Ended(stage.Run("T8")[0], length, "T8", "a read that came while an old map was unmapped");
            });

            // A file that takes references for itself has its maps made by workers: its owner waits for nothing.
            if (!Can(ImporterCapabilities.Paged))
                owner.UntilBlocked();
            IActor mover = stage.World.Actors.Start("mover", () => stage.Buffer.Move());
            mover.UntilBlocked();
            goOn.Set();
            stage.World.Ends(owner, "T8", "a request that came while an old map was unmapped did not end.");
            stage.World.Ends(mover, "T14", "a move that came while an old map was unmapped did not end.");
            CheckPrefix(stage, data, "T8", "a read that came while an old map was unmapped");
        }
        finally
        {
            goOn.Set();
            stage.Buffer.InUnmap = null;
        }
    });

    private static void MoveUnderHold(ImporterStage stage, DmaHold hold, int requests, int length)
    {
        // With gaps, so that a device which gathers neighbours has a DMA for each.
        int stride = stage.HasPlaces ? 2 * length : length;
        byte[] data = Bytes(7, requests * stride);
        stage.Give(data, stride);
        bool hasMoved = false;
        stage.Buffer.AfterInvalidation = () => Volatile.Write(ref hasMoved, true);
        IActor owner = stage.World.Actors.Start("owner", () =>
        {
            for (int i = 0; i < requests; i++)
                stage.Read((long)i * stride, (long)i * stride, length, (ulong)i + 1);
            stage.Ring.Submit();
            foreach (RingCompletion completion in stage.ReapEach(requests, "N8"))
                stage.Ended(completion, length, "T18", "a read under which the buffer moved");
        });
        stage.World.Eventually(() => hold.IsHeld, "N8", "the device did not begin to move the data of a request.");
        IActor mover = stage.World.Actors.Start("mover", () => stage.Buffer.Move());
        mover.UntilBlocked();
        stage.World.Check(!Volatile.Read(ref hasMoved), "T18", "the map's reference was dropped while the device was moving the request's data.");
        stage.World.Check(!owner.HasEnded, "T18", "a request was completed while the device was moving its data.");
        hold.Release();
        stage.World.Ends(owner, "N8", "requests under which the buffer moved did not end.");
        stage.World.Ends(mover, "T14", "a move under requests did not end.");
        for (int i = 0; i < requests; i++)
            CheckRange(stage, data, i * stride, length, "T18", "reads that were in flight when the buffer moved");
    }

    /// <summary>Prepares reads side by side, numbered from 1.</summary>
    private static void Reads(ImporterStage stage, int count, int length)
    {
        for (int i = 0; i < count; i++)
            stage.Read((long)i * length, (long)i * length, length, (ulong)i + 1);
    }

    private static void CheckPrefix(ImporterStage stage, byte[] data, string rule, string what)
    {
        byte[] found = new byte[data.Length];
        stage.Buffer.Read(0, found);
        stage.CheckEqual(data, found, rule, $"after {what} the buffer in its new place");
    }
}
