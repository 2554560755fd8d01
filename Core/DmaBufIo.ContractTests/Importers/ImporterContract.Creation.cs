using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>What fails half-way leaves nothing behind: opening a device, registering a buffer (T2), making a map (T12).</content>
public abstract partial class ImporterContract
{
    /// <summary>A registration holds one reference on the buffer and one on the file, and gives both back.</summary>
    [Fact]
    public virtual void T2_a_registration_holds_one_reference_on_the_buffer_and_one_on_the_file() => OnStage(stage =>
    {
        // The ring has opened the file by now: what it holds of it for itself stays.
        int buffer = stage.Buffer.Buffer.References;
        int file = stage.Target.File.References;
        for (int i = 0; i < 3; i++)
        {
            stage.Register(1);
            stage.World.Check(
                stage.Buffer.Buffer.References == buffer + 1 && stage.Target.File.References == file + 1,
                "T2",
                $"a registration took {stage.Buffer.Buffer.References - buffer} references on the buffer and {stage.Target.File.References - file} on the file.");
            Released(stage, stage.Ring.RemoveBuffer(1));
            stage.World.Check(
                stage.Buffer.Buffer.References == buffer && stage.Target.File.References == file,
                "T2",
                $"after a registration was removed {stage.Buffer.Buffer.References - buffer} references on the buffer and {stage.Target.File.References - file} on the file are left.");
        }
    });

    /// <summary>Whichever mapping is refused while the device is opened: nothing stays mapped, nothing stays open.</summary>
    [Fact]
    public virtual void T2_a_device_that_cannot_be_opened_leaves_nothing_behind()
    {
        // Each in a world of its own: what is looked at is what the whole attempt leaves.
        for (int refused = 0; ; refused++)
        {
            bool wasRefused = false;
            InWorld(world =>
            {
                world.Situation = $"mapping {refused + 1} of the opening refused";
                using var refusal = new MapRefusal(world.Fabric, refused);
                ImporterTarget? opened = null;
                try
                {
                    opened = Fixture.Open(world);
                }
                catch (Exception e) when (refusal.HasRefused && e is not OutOfMemoryException)
                {
                    // It says why; what counts is what it leaves.
                }

                wasRefused = refusal.HasRefused;
                opened?.Dispose();
                world.Check(world.Host.Devices.Count == 0, "T2", "a device is listed as open although opening it has failed.");
                world.Check(
                    world.Mappings.Count == 0 && world.Iommu.LeakedMappings == 0,
                    "T2",
                    $"{Math.Max(world.Mappings.Count, (int)world.Iommu.LeakedMappings)} mappings stay although opening the device has failed.");
            });
            if (!wasRefused)
                return;
        }
    }

    /// <summary>Whichever mapping is refused while a buffer is registered: the registration is refused and nothing of it stays; the next one works.</summary>
    [Fact]
    public virtual void T2_a_registration_that_fails_half_way_leaves_nothing_behind()
    {
        // The ring's first registration opens the file's queue as well; a later one does not.
        foreach (bool isFirst in new[] { true, false })
        {
            for (int refused = 0; ; refused++)
            {
                bool wasRefused = false;
                OnStage(
                    new StageSetup { Registers = !isFirst },
                    stage => wasRefused = RefuseRegistration(stage, refused, isFirst),
                    situation: $"mapping {refused + 1} of a {(isFirst ? "first" : "further")} registration refused");
                if (!wasRefused)
                    break;
            }
        }
    }

    /// <summary>Whichever mapping is refused while a map is made: the request ends with an error, nothing stays mapped, and the next request makes another map.</summary>
    [Fact]
    public virtual void T12_a_map_that_fails_half_way_is_undone()
    {
        // With the first map may come what stays for all: how much is left is looked at in a later one.
        foreach (bool isFirst in new[] { true, false })
        {
            for (int refused = 0; ; refused++)
            {
                bool wasRefused = false;
                OnStage(
                    new StageSetup { Pieces = [4096, 4096, 4096, 8192, 4096] },
                    stage => wasRefused = RefuseMap(stage, isFirst, refused),
                    situation: $"mapping {refused + 1} of a {(isFirst ? "first" : "further")} map refused");
                if (!wasRefused)
                    break;
            }
        }
    }

    /// <summary>An exporter that cannot map fails that request and no other.</summary>
    [Fact]
    public virtual void T12_a_buffer_that_cannot_be_mapped_now_fails_the_request_and_not_the_next() => OnStage(stage =>
    {
        SkipUnless(!Can(ImporterCapabilities.Connected), "The device is a connection: with a request that fails it has ended, and there is no next one.");
        int before = MappingsAfterAMove(stage);
        int length = stage.Blocks(4096);
        for (int i = 0; i < 3; i++)
        {
            stage.Buffer.InMap = static (_, _) => throw new DmaBufIoException(Errno.ENOMEM, "contract", "contract", "there is no room for the buffer now", "Try again");
            stage.Read(0, 0, length);
            Errno status = stage.Run("T12")[0].Status;
            stage.World.Check(status == Errno.ENOMEM, "T12", $"a request whose map the exporter refused with ENOMEM ended with {status}.");
            CheckUndone(stage, before);
            stage.Buffer.InMap = null;
            stage.CheckRead(0, 0, Bytes(i, length), "T12");
            stage.Buffer.Move();
            stage.World.Eventually(() => stage.World.Mappings.Count <= before, "T8", "mappings of a map that was invalidated stay.");
        }
    });

    private bool RefuseMap(ImporterStage stage, bool isFirst, int refused)
    {
        int length = stage.Blocks(4096);
        int before = isFirst ? int.MaxValue : MappingsAfterAMove(stage);
        stage.Target.Give(0, Bytes(1, length)); // by its own way, whose mappings are not meant
        if (!isFirst)
            before = Math.Max(before, stage.World.Mappings.Count);
        using (var refusal = new MapRefusal(stage.World.Fabric, refused))
        {
            stage.Read(0, 0, length);
            RingCompletion ended = stage.Run("T12")[0];
            if (!refusal.HasRefused)
                return false;
            stage.World.Check(ended.Status != Errno.Ok, "T12", "a request ended well although its map could not be made.");
        }

        CheckUndone(stage, before);
        if (!Can(ImporterCapabilities.Connected))
            stage.CheckRead(0, 0, Bytes(refused, length), "T12");
        return true;
    }

    private static bool RefuseRegistration(ImporterStage stage, int refused, bool isFirst)
    {
        int buffer = stage.Buffer.Buffer.References;
        int mapped = stage.World.Mappings.Count;

        // With the first registration may come what stays for all: then a second attempt must leave no more than the first.
        for (int attempt = isFirst ? 0 : 1; attempt < 2; attempt++)
        {
            using (var refusal = new MapRefusal(stage.World.Fabric, refused))
            {
                try
                {
                    stage.Ring.RegisterBuffer(1, stage.Registration);
                }
                catch (DmaBufIoException) when (refusal.HasRefused)
                {
                    // As it should be.
                }

                if (!refusal.HasRefused)
                    return isFirst && attempt != 0;
            }

            stage.World.Check(stage.Ring.TokenAt(1) is null, "T2", "a registration is in its slot although a mapping that it needs was refused.");
            bool isCounted = attempt != 0;
            stage.World.Eventually(
                () => stage.Buffer.Buffer.References == buffer && (!isCounted || stage.World.Mappings.Count <= mapped),
                "T2",
                "a registration that failed has left a reference on the buffer or a mapping behind.");
            mapped = stage.World.Mappings.Count;
        }

        stage.Ring.RegisterBuffer(1, stage.Registration);
        Released(stage, stage.Ring.RemoveBuffer(1));
        return true;
    }

    private static void CheckUndone(ImporterStage stage, int mappings)
    {
        stage.World.Check(stage.Buffer.LiveTables == 0, "T12", $"{stage.Buffer.LiveTables} mappings of the buffer stay although the map could not be made.");
        int left = stage.World.Mappings.Count - mappings;
        stage.World.Check(left <= 0, "T12", $"{left} mappings of the driver stay although the map could not be made.");
    }

    private static void Released(ImporterStage stage, RemovedBuffer removed) =>
        stage.World.Eventually(() => removed.IsReleased, "T10", "a registration that was removed is not released, and no request uses it.");

    /// <summary>Refuses one mapping.</summary>
    private sealed class MapRefusal : IDisposable
    {
        private readonly PuppetFabric _fabric;
        private int _left;

        internal MapRefusal(PuppetFabric fabric, int which)
        {
            _fabric = fabric;
            _left = which;
            fabric.OnMap = mapping =>
            {
                if (Interlocked.Decrement(ref _left) == -1)
                    throw new DmaBufIoException(Errno.ENOMEM, "contract", mapping.Device, $"the contract refuses to map '{mapping.Purpose}'", "Undo what was done so far");
            };
        }

        internal bool HasRefused => Volatile.Read(ref _left) < 0;

        public void Dispose() => _fabric.OnMap = null;
    }
}
