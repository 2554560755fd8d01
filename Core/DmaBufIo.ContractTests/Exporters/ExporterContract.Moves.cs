using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <content>Moves: importers are told, requests in flight end first, and nobody reaches the old place afterwards.</content>
public abstract partial class ExporterContract
{
    private static TokenOptions Fenced => TokenOptions.Default with { Design = InvalidationDesign.Fenced };

    /// <summary>Every byte is the same after a move.</summary>
    [Fact]
    public virtual void N1_the_contents_survive_every_move() => OnStage(
        stage =>
        {
            byte[] bytes = Bytes(5, s_size);
            stage.Fill(bytes);
            for (int i = 1; i <= 5; i++)
            {
                stage.Move();
                stage.CheckContents(bytes, "N1", $"after move {i}");
            }
        },
        needs: ExporterCapabilities.Moves);

    /// <summary>A device's driver is told of a move, each time.</summary>
    [Fact]
    public virtual void F7_importers_are_told_of_every_move() => OnStage(
        stage =>
        {
            RawDevice device = stage.Attach();
            for (int i = 1; i <= 3; i++)
            {
                int before = device.Invalidations;
                long generation = stage.Buffer.Generation;
                device.Unmap(device.Map());
                stage.Move();
                stage.World.Check(device.Invalidations > before, "F7", $"the buffer has moved and its importer was not told (move {i}).");
                stage.World.Check(stage.Buffer.Generation > generation, "F7", $"the buffer has moved and is of generation {generation} still (move {i}).");
            }
        },
        needs: ExporterCapabilities.Moves);

    /// <summary>Draining design: while a request is in the middle of its DMA the old memory is as it was, and what the request brings is in the new place.</summary>
    [Fact]
    public virtual void F7_the_old_memory_is_left_alone_until_requests_in_flight_have_ended() => OnStage(
        static stage => MoveUnderRequest(stage, TokenOptions.Default),
        needs: ExporterCapabilities.Moves);

    /// <summary>Fenced design: the invalidation returns at once, and the exporter waits for the fences that it has left.</summary>
    [Fact]
    public virtual void F7_the_old_memory_is_left_alone_until_the_fences_have_signalled() => OnStage(
        static stage => MoveUnderRequest(stage, Fenced),
        needs: ExporterCapabilities.Moves);

    /// <summary>An access that comes too late is seen: the old place is dead.</summary>
    [Fact]
    public virtual void F7_after_a_move_an_access_to_the_old_addresses_is_recorded() => OnStage(
        static stage =>
        {
            stage.World.ExpectFaults();
            RawDevice device = stage.Attach();
            SgTable old = device.Map();
            stage.Move();
            foreach (DeviceRange range in old.Ranges)
            {
                for (int i = 0; i < 2; i++)
                {
                    bool isWrite = i == 1;
                    long recorded = Recorded(stage);
                    Errno status = device.Touch(range.Address, [1, 2, 3, 4], isWrite);
                    stage.World.Check(
                        Recorded(stage) > recorded,
                        "F7",
                        $"a device {(isWrite ? "wrote" : "read")} at 0x{range.Address:x}, where the buffer lay before it moved, and nothing shows it ({status}): the region of the old place was not marked dead.");
                }
            }
        },
        needs: ExporterCapabilities.Moves);

    /// <summary>Whoever waits for the lock while the buffer moves does not get the old place in a gap.</summary>
    [Fact]
    public virtual void F6_no_map_of_the_old_place_is_made_while_the_buffer_moves() => OnStage(
        static stage =>
        {
            // Large, and several times: a gap may be as short as copying takes.
            byte[] bytes = Bytes(6, LargeSize);
            stage.Fill(bytes);
            for (int i = 0; i < 6; i++)
                MapWhileMoving(stage, bytes);
        },
        LargeSize,
        ExporterCapabilities.Moves);

    /// <summary>A map that is made after a move is of the place where the buffer lies now.</summary>
    [Fact]
    public virtual void F6_a_map_after_a_move_is_of_the_new_place() => OnStage(
        static stage =>
        {
            ContractWorld world = stage.World;
            byte[] bytes = Bytes(7, s_size);
            stage.Fill(bytes);
            RawDevice device = stage.Attach();
            for (int i = 0; i < 3; i++)
            {
                SgTable old = device.Map();
                stage.Move();
                SgTable table = world.Expect("F6", "when a device was given the buffer's new place", () => device.Map());
                world.Check(!ReferenceEquals(old, table), "F6", "Map answered the table of the place that the buffer has left.");
                world.Check(table.Generation == stage.Buffer.Generation, "F6", $"Map answered a table of generation {table.Generation} when the buffer's is {stage.Buffer.Generation}.");
                long recorded = Recorded(stage);
                byte[] found = device.Read(table, 0, s_size);
                world.Check(Recorded(stage) == recorded, "F6", $"a table that was made after a move is of the old place: {stage.LastReport}");
                stage.CheckBytes(bytes, found, "F6", "the bytes that a device finds through a table that was made after a move");
                device.Unmap(old);
                device.Unmap(table);
            }
        },
        needs: ExporterCapabilities.Moves);

    /// <summary>A device that is attached statically cannot be told: the buffer stays where it is until it is detached.</summary>
    [Fact]
    public virtual void F7_a_static_attachment_keeps_the_buffer_where_it_is() => OnStage(
        stage =>
        {
            ContractWorld world = stage.World;
            byte[] bytes = Bytes(8, s_size);
            stage.Fill(bytes);
            RawDevice device = stage.Attach("static", isDynamic: false);
            SgTable table = device.Map();
            if (Can(ExporterCapabilities.Moves))
            {
                Exception? refused = Record.Exception(() => stage.Target.Move());
                world.Check(refused is null or DmaBufIoException { Errno: Errno.EBUSY }, "F7", $"a move of a pinned buffer is refused by EBUSY, or does nothing; it threw {refused}.");
                stage.Settle();
            }

            long recorded = Recorded(stage);
            byte[] found = device.Read(table, 0, s_size);
            world.Check(Recorded(stage) == recorded, "F7", $"the buffer was moved away under a static attachment: {stage.LastReport}");
            stage.CheckBytes(bytes, found, "F7", "the bytes that a statically attached device finds");
            byte[] written = Bytes(9, 4096);
            device.Write(table, 4096, written);
            written.CopyTo(bytes, 4096);
            stage.CheckContents(bytes, "F7", "after a statically attached device has written");
            stage.Close(device);
            if (Can(ExporterCapabilities.Moves))
                stage.Move();
            stage.CheckContents(bytes, "F7", "after the static attachment had ended");
        },
        needs: ExporterCapabilities.Pins);

    /// <summary>All devices of a buffer lose their maps at once; the move waits for each of them.</summary>
    [Fact]
    public virtual void T17_a_move_ends_the_maps_of_all_devices_before_it_waits_for_any() => OnStage(
        static stage =>
        {
            PuppetImporter held = stage.Import("held");
            PuppetImporter idle = stage.Import("idle");
            foreach (PuppetImporter importer in new[] { held, idle })
            {
                importer.Write(0, 4096);
                importer.Run("T17", "a request before the buffer moves");
            }

            using var hold = new DeviceHold(stage.World.Fabric, held.Device.Name);
            IActor owner = HeldRead(stage, held, hold, 0, 4096);
            IActor mover = stage.World.Actors.Start("mover", () => stage.Target.Move());
            mover.UntilBlocked();
            stage.World.Check(held.Token.LiveGeneration is null, "T17", "the buffer is moving, and a device whose request it waits for still has a live map.");
            stage.World.Check(idle.Token.LiveGeneration is null, "T17", "the buffer is moving, and a device without requests still has a live map while another one is waited for.");
            hold.Release();
            owner.Join();
            mover.Join();
            stage.Settle();
        },
        needs: ExporterCapabilities.Moves);

    private static void MapWhileMoving(ExporterStage stage, byte[] bytes)
    {
        ContractWorld world = stage.World;
        RawDevice device = stage.Attach(stage.Name("raw"));
        device.Map();
        IActor? late = null;
        SgTable? table = null;
        device.OnInvalidate = () =>
        {
            if (late is not null)
                return;
            late = world.Actors.Start("late importer", () => table = device.Map());
            late.UntilBlocked();
        };
        stage.Move();
        world.Check(late is not null, "F7", "the buffer has moved and its importer was not told.");
        late!.Join();
        device.OnInvalidate = null;

        // Else the move has killed it, too.
        if (table!.Generation == stage.Buffer.Generation)
        {
            long recorded = Recorded(stage);
            byte[] found = device.Read(table, 0, bytes.Length);
            world.Check(
                Recorded(stage) == recorded,
                "F6",
                $"an importer that waited for the lock while the buffer moved was given the old place, and was not told that it is gone: {stage.LastReport}");
            stage.CheckBytes(bytes, found, "F6", "the bytes that an importer finds which waited for the lock while the buffer moved");
        }

        stage.Close(device);
    }

    private static long Recorded(ExporterStage stage) => stage.World.Iommu.Faults + stage.World.Iommu.StaleAccesses;

    /// <summary>An actor whose read is in the middle of its DMA.</summary>
    private static IActor HeldRead(ExporterStage stage, PuppetImporter importer, DeviceHold hold, long bufferOffset, int length)
    {
        IActor owner = stage.World.Actors.Start($"owner of {importer.Device.Name}", () =>
        {
            importer.Read(bufferOffset, length);
            importer.Run("F7", "a request under which the buffer moved");
        });
        stage.World.Eventually(() => hold.IsHeld || owner.HasEnded, "N1", "a request of a device did not come to its DMA.");
        if (!hold.IsHeld)
            owner.Join();
        return owner;
    }

    private static void MoveUnderRequest(ExporterStage stage, TokenOptions tokens)
    {
        ContractWorld world = stage.World;
        const int Offset = (3 * 4096) + 512;
        byte[] bytes = Bytes(10, s_size);
        stage.Fill(bytes);
        PuppetImporter importer = stage.Import(tokens: tokens);
        byte[] brought = Bytes(11, 8192);
        importer.Write(0, 4096);
        importer.Run("F7", "a request before the move");
        brought.CopyTo(importer.Device.Store);

        // Where it lies once the device has it: an exporter may choose a place that the device reaches.
        MemoryRange[] old = [.. stage.Buffer.Describe().Ranges];
        using (var hold = new DeviceHold(world.Fabric, importer.Device.Name))
        {
            IActor owner = HeldRead(stage, importer, hold, Offset, brought.Length);
            IActor mover = world.Actors.Start("mover", () => stage.Target.Move());
            mover.UntilBlocked();
            CheckUntouched(stage, old, bytes);

            // Memory that was given away would show what others put there. Where the invalidation has left a fence, others of the exporter may be in a queue behind it (D3).
            if (tokens.Design == InvalidationDesign.Draining && old.Length != 0)
            {
                stage.Put(Bytes(12, s_size), 0, stage.Create("other", s_size).Buffer);
                CheckUntouched(stage, old, bytes);
            }

            hold.Release();
            owner.Join();
            mover.Join();
        }

        stage.Settle();
        brought.CopyTo(bytes, Offset);
        stage.CheckContents(bytes, "F7", "after a move under a request that wrote the buffer");
        importer.Write(0, s_size, 16384);
        importer.Run("F7", "a request after the move");
        stage.CheckBytes(bytes, importer.Device.Store.Slice(16384, s_size), "F7", "the bytes that a device reads after the move");
    }

    private static void CheckUntouched(ExporterStage stage, MemoryRange[] old, byte[] bytes)
    {
        int done = 0;
        foreach (MemoryRange range in old)
        {
            stage.World.Check(!range.Region.IsDead, "F7", "the old place was marked dead while a request was in the middle of its DMA to it.");
            byte[] found;
            try
            {
                found = range.Region.Span(range.Offset, (int)range.Length).ToArray();
            }
            catch (ObjectDisposedException e)
            {
                throw stage.World.Broken("F7", "the old place was freed while a request was in the middle of its DMA to it.", e);
            }

            stage.CheckBytes(bytes.AsSpan(done, found.Length), found, "F7", "the old place was touched while a request was in the middle of its DMA to it: bytes there");
            done += found.Length;
        }
    }
}
