using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>The owner of the memory moves it: what a map is worth after that, and that each ends once (T7, T8).</content>
public abstract partial class ImporterContract
{
    /// <summary>The request after a move goes to the new place.</summary>
    [Fact]
    public virtual void T7_a_request_after_a_move_uses_the_new_place() => WhoeverMoves((stage, elsewhere) =>
    {
        SkipUnless(ImporterCapabilities.MovesData);
        int length = stage.Blocks(8192);
        stage.CheckRead(0, 0, Bytes(1, length), "T7");
        stage.Move(elsewhere);
        stage.CheckRead(0, 4096, Bytes(2, length), "T7");
        stage.Move(elsewhere);
        stage.CheckWrite(0, 4096, Bytes(3, length), "T7");
    });

    /// <summary>A move between the registration and its first request: the first map is one of the new place.</summary>
    [Fact]
    public virtual void T7_the_first_request_after_a_move_uses_the_new_place() => WhoeverMoves((stage, elsewhere) =>
    {
        int length = stage.Blocks(4096);
        stage.Register(0);
        stage.Move(elsewhere);
        stage.CheckRead(0, 0, Bytes(1, length), "T7");
        stage.Register(0);
        stage.Move(elsewhere);
        stage.CheckWrite(0, 0, Bytes(2, length), "T7");
    });

    /// <summary>A move between preparing a request and submitting it.</summary>
    [Fact]
    public virtual void T7_a_request_that_was_prepared_before_a_move_uses_the_new_place() => WhoeverMoves((stage, elsewhere) =>
    {
        int length = stage.Blocks(4096);
        stage.CheckRead(0, 0, Bytes(1, length), "T7");
        byte[] data = Bytes(2, length);
        byte[] expected = stage.Contents();
        data.CopyTo(expected, 4096);
        stage.Target.Give(0, data);
        stage.Read(0, 4096, length);
        stage.Move(elsewhere);
        stage.Ended(stage.Run("T7")[0], length, "T7", "a read that was prepared before the buffer moved");
        stage.CheckContents(expected, "T7", "after a read that was prepared before the buffer moved the buffer");
    });

    /// <summary>Each map is unmapped once, after a move and at the end.</summary>
    [Fact]
    public virtual void T8_every_map_is_unmapped_once() => InBothDesigns(stage =>
    {
        int length = stage.Blocks(4096);
        stage.World.ExpectDriverFaults();
        int standing = MappingsAfterAMove(stage);
        for (int i = 0; i < 5; i++)
        {
            stage.CheckRead(0, 0, Bytes(i, length), "T8");
            stage.Move(elsewhere: i % 2 == 0);
            stage.World.Eventually(
                () => stage.Buffer is { LiveTables: 0, OldPlaces: 0 } && stage.World.Mappings.Count <= standing,
                "T8",
                () => $"after move {i + 1} mappings were not given back: {stage.Buffer.LiveTables} of the buffer, {stage.World.Mappings.Count - standing} of the device.");
            CheckFaults(stage, "T8");
        }
    });

    /// <summary>Two registrations of one buffer with one device: what the one has unmapped, the other still has.</summary>
    [Fact]
    public virtual void T8_the_end_of_one_registration_leaves_the_others_of_the_buffer_alone() => OnStage(stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData);
        int length = stage.Blocks(4096);
        stage.World.ExpectDriverFaults();
        for (int i = 0; i < 3; i++)
        {
            stage.CheckRead(0, 0, Bytes(i, length), "T8");
            stage.Register(1);
            stage.Target.Give(0, Bytes(i, length));
            stage.World.Check(stage.Ring.TryReadFixed(stage.Target.File, 1, 4096, length, 0, 1), "T8", "the ring is full although nothing is in flight.");
            stage.Ended(stage.Run("T8")[0], length, "T8", "a read by a second registration of the buffer");
            Released(stage, stage.Ring.RemoveBuffer(1));
            CheckFaults(stage, "T8");
            stage.CheckRead(0, 0, Bytes(i + 10, length), "T8");
            stage.CheckWrite(0, 8192, Bytes(i + 20, length), "T8");
        }
    });

    /// <summary>A registration that was made and never used leaves nothing.</summary>
    [Fact]
    public virtual void T10_a_registration_that_was_never_used_leaves_nothing() => OnStage(stage => CheckRegistrations(stage, static (_, _) => { }));

    /// <summary>A registration that was used leaves nothing, however its maps came to their end.</summary>
    [Fact]
    public virtual void T10_a_registration_that_was_used_leaves_nothing() => OnStage(stage => CheckRegistrations(stage, (slot, round) =>
    {
        int length = stage.Blocks(4096);
        stage.World.Check(stage.Ring.TryReadFixed(stage.Target.File, slot, 0, length, 0, 1), "T10", "the ring is full although nothing is in flight.");
        stage.Target.Give(0, Bytes(round, length));
        stage.Ended(stage.Run("T10")[0], length, "T10", "a read");
        if (round % 2 == 1)
            stage.Buffer.Move();
    }));

    /// <summary>Removed while requests run: they end, and then the registration does (R6).</summary>
    [Fact]
    public virtual void T10_a_registration_that_is_removed_under_load_ends_after_its_requests() => InBothDesigns(stage =>
    {
        const int Requests = 16;
        int length = stage.Blocks(4096);
        byte[] data = Bytes(1, Requests * length);
        stage.Give(data, length);
        for (int i = 0; i < Requests; i++)
            stage.Read((long)i * length, (long)i * length, length, (ulong)i + 1);
        stage.Ring.Submit();
        RemovedBuffer removed = stage.Ring.RemoveBuffer(0);
        foreach (RingCompletion ended in stage.ReapEach(Requests, "R6"))
            stage.Ended(ended, length, "R6", "a read whose registration was removed while it ran");
        Released(stage, removed);
        byte[] found = stage.Contents();
        stage.World.Check(found.AsSpan(0, data.Length).SequenceEqual(data), "R6", "the data of reads whose registration was removed while they ran is not in the buffer.");
        stage.World.Check(stage.Buffer.Buffer.References == 1, "T10", "the registration has ended and a reference on the buffer is left.");
    });

    /// <summary>The owner of the memory holds its lock for long: the release waits for it, and for nothing that comes after.</summary>
    [Fact]
    public virtual void T10_a_release_while_the_owner_holds_the_lock_ends_when_the_lock_is_free() => OnStage(stage =>
    {
        int length = stage.Blocks(4096);
        stage.CheckRead(0, 0, Bytes(1, length));
        RemovedBuffer removed;
        long before = stage.Buffer.UnmapCalls;
        using (stage.Buffer.Buffer.Reservation.Lock())
        {
            removed = stage.Ring.RemoveBuffer(0);
            stage.World.Check(stage.Buffer.UnmapCalls == before, "T5", "the buffer was unmapped while somebody else held its lock.");
        }

        Released(stage, removed);
        stage.Register(0);
        stage.CheckRead(0, 0, Bytes(2, length));
    });

    /// <summary>
    /// The mappings that stand after a request and a move. What the driver makes when it is first wanted and keeps for the next, a pool of descriptors for example, is among them: what counts is
    /// what there is more after another round.
    /// </summary>
    private static int MappingsAfterAMove(ImporterStage stage)
    {
        stage.CheckRead(0, 0, Bytes(99, stage.Blocks(4096)), "T8");
        stage.Buffer.Move();
        stage.World.Eventually(
            () => stage.Buffer is { LiveTables: 0, OldPlaces: 0 },
            "T8",
            () => $"after a move {stage.Buffer.LiveTables} mappings of the buffer were not given back.");

        // Unmap runs with the lock held: who has it next comes after the end of it.
        using (stage.Buffer.Buffer.Reservation.Lock())
            return stage.World.Mappings.Count;
    }

    private static void CheckRegistrations(ImporterStage stage, Action<int, int> use)
    {
        const int Slot = 3;
        int mappings = 0;
        int tables = stage.Buffer.LiveTables;
        for (int round = 0; round < 5; round++)
        {
            stage.Register(Slot);
            use(Slot, round);
            Released(stage, stage.Ring.RemoveBuffer(Slot));

            // What the first has made for those that follow may stay, a pool of descriptors for example; what each leaves is lost.
            if (round == 0)
                mappings = stage.World.Mappings.Count;
            int left = stage.World.Mappings.Count - mappings;
            if (left > 0 || stage.Buffer.LiveTables != tables)
                throw stage.World.Broken("T10", $"{left} mappings are left after a registration was released, for example of '{stage.World.Mappings[^1].Purpose}'.");
        }
    }

    /// <summary>A callback of the driver threw: where nobody is told, the contract tells.</summary>
    private static void CheckFaults(ImporterStage stage, string rule)
    {
        if (stage.World.DriverFaults is [var first, ..])
            throw stage.World.Broken(rule, $"{first.Callback} threw {first.Exception.GetType().Name}: {first.Exception.Message}", first.Exception);
    }
}
