using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <content>The owner of the memory moves it, at every stage of a request.</content>
public abstract partial class ImporterContract
{
    /// <summary>The request after a move goes to the new place.</summary>
    [Fact]
    public virtual void T7_a_request_after_a_move_uses_the_new_place() => OnStage(stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData);
        int length = stage.Blocks(8192);
        stage.CheckRead(0, 0, Bytes(1, length), "T7");
        stage.Buffer.Move();
        stage.CheckRead(0, 4096, Bytes(2, length), "T7");
        stage.Buffer.Move();
        stage.CheckWrite(0, 4096, Bytes(3, length), "T7");
    });

    /// <summary>Each map is unmapped once, after a move and at the end.</summary>
    [Fact]
    public virtual void T8_every_map_is_unmapped_once() => OnStage(stage =>
    {
        int length = stage.Blocks(4096);
        for (int i = 0; i < 5; i++)
        {
            stage.CheckRead(0, 0, Bytes(i, length), "T8");
            stage.Buffer.Move();
            stage.World.Eventually(
                () => stage.Buffer is { LiveTables: 0, OldPlaces: 0 },
                "T8",
                $"after move {i + 1} {stage.Buffer.LiveTables} mappings of the old place were not given back.");
        }
    });

    /// <summary>A move waits for the device's DMA, and the device does not go on with the old place after it (F7, T18).</summary>
    [Fact]
    public virtual void T18_a_move_waits_until_the_device_has_finished_with_the_memory() => OnStage(stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData);
        using var hold = new DmaHold(stage.World.Fabric, stage.Buffer.Buffer.Name);
        int length = stage.Blocks(4096);
        byte[] data = Bytes(7, length);
        stage.Target.Give(0, data);
        IActor? mover = null;
        bool hasMoved = false;
        stage.Buffer.AfterInvalidation = () => hasMoved = true;
        IActor owner = stage.World.Actors.Start("owner", () =>
        {
            stage.Read(0, 0, length);
            stage.Ended(stage.Run()[0], length, "T18", "a read under which the buffer moved");
        });
        stage.World.Eventually(() => hold.IsHeld, "N8", "the device did not begin to move the data of a request.");
        mover = stage.World.Actors.Start("mover", () => stage.Buffer.Move());
        mover.UntilBlocked();
        stage.World.Check(!hasMoved, "T18", "the map's reference was dropped while the device was moving the request's data.");
        hold.Release();
        owner.Join();
        mover.Join();
        byte[] found = new byte[length];
        stage.Buffer.Read(0, found);
        stage.World.Check(found.AsSpan().SequenceEqual(data), "T18", "the data of a read that was in flight when the buffer moved is not in the buffer's new place.");
    });
}
