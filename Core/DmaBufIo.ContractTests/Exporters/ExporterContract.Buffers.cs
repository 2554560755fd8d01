using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <content>Buffers as a host makes them: what the exporter says of itself, how long a buffer lives, where it lies, and what happens when memory is short.</content>
public abstract partial class ExporterContract
{
    /// <summary>What an exporter says that it can is what it can.</summary>
    [Fact]
    public virtual void L1_an_exporter_says_what_it_can() => OnStage(stage =>
    {
        ContractWorld world = stage.World;
        ExporterTarget target = stage.Target;
        DmaBuf buffer = target.Buffer;
        world.Check(buffer.Size == s_size, "L1", $"a buffer of {s_size} bytes was asked for, and one of {buffer.Size} was made.");
        stage.Settle();
        world.Eventually(() => buffer.References == 1, "L1", () => $"a new buffer has {buffer.References} references; the caller has one, and nobody else any.");
        Says(target.Exported.CanMove && target.Exported.Mover is not null, ExporterCapabilities.Moves, "the factory's CanMove, with IMovableBuffers,");
        Says(target.Compute is not null, ExporterCapabilities.Jobs, "that the factory implements IComputeBuffers");
        Says(target.Presser is not null, ExporterCapabilities.Pressure, "that the factory implements IPressableBuffers");
        BufferBacking backing = world.Expect("L1", "when it was asked what a buffer is made of", buffer.Describe);
        Says(backing.CanMove, ExporterCapabilities.Moves, "what Describe says of moving");
        Says(backing.Ranges.Sum(static r => r.Length) == s_size, ExporterCapabilities.HostMemory, "that Describe names the memory");
        Says(buffer.Descriptor is not null, ExporterCapabilities.Descriptors, "that the buffer has a descriptor");
        void Says(bool says, ExporterCapabilities capability, string what) =>
            world.Check(says == Can(capability), "L1", $"{what} is {(says ? "there" : "not there")}, and the fixture {(says ? "does not list" : "lists")} the capability {capability}.");
    });

    /// <summary>A new buffer holds nothing of others.</summary>
    [Fact]
    public virtual void L1_a_new_buffer_is_zero() => OnStage(stage =>
    {
        stage.Fill(Bytes(50, s_size));
        ExporterTarget used = stage.Create("used", s_size);
        stage.Fill(Bytes(51, s_size), used.Buffer);
        stage.Drop(used);
        ExporterTarget fresh = stage.Create("fresh", s_size);
        stage.CheckContents(new byte[s_size], "L1", "in a new buffer", fresh.Buffer);
    });

    /// <summary>What is misspelt is refused, and the message says what to write.</summary>
    [Fact]
    public virtual void L2_a_wrong_expression_is_refused_with_a_remedy() => OnStage(stage =>
    {
        DmaBufIoHost host = stage.World.Host;
        int buffers = host.Buffers.Count;
        string word = stage.Target.Exported.Expression.Word;
        foreach (string wrong in new[] { $"{word}:no-such-option=1", $"{word}:no-such-option" })
        {
            Exception? refused = Record.Exception(() => host.CreateBuffer(wrong, "wrong", s_size).Dispose());
            if (refused is null && !wrong.Contains('='))
                continue; // a text that is no option may be a name
            stage.World.Check(
                refused is DmaBufIoException { Errno: Errno.EINVAL, Remedy.Length: > 0 },
                "L2",
                $"'{wrong}' is refused by EINVAL with a remedy; {(refused is null ? "it was taken" : $"it threw {refused.GetType().Name}: {refused.Message}")}");
        }

        foreach (long size in new[] { 0, -4096, 4095, s_size + 1L })
        {
            Exception? refused = Record.Exception(() => host.CreateBuffer(ExpressionOf(stage), "wrong", size).Dispose());
            stage.World.Check(refused is DmaBufIoException { Errno: Errno.EINVAL }, "L2", $"a buffer of {size} bytes is refused by EINVAL; {(refused is null ? "it was made" : $"it threw {refused.GetType().Name}: {refused.Message}")}");
        }

        stage.World.Check(host.Buffers.Count == buffers, "L2", "a buffer that was refused is listed among the host's buffers.");
    });

    /// <summary>The descriptor finds the buffer, also a duplicate of it.</summary>
    [Fact]
    public virtual void L1_the_descriptor_stands_for_the_buffer() => OnStage(
        stage =>
        {
            using var duplicate = Native.MemfdHandle.Duplicate(stage.Buffer.Descriptor!);
            DmaBuf found = stage.World.Expect("L1", "when the buffer was looked for by its descriptor", () => DmaBuf.FromDescriptor(duplicate));
            bool isSame = ReferenceEquals(found, stage.Buffer);
            found.Put();
            stage.World.Check(isSame, "L1", $"the descriptor of {stage.Buffer.Name} finds {found.Name}.");
        },
        needs: ExporterCapabilities.Descriptors);

    /// <summary>A buffer lives until the last reference is gone, whoever holds it: the application's goes first here.</summary>
    [Fact]
    public virtual void T2_a_buffer_lives_as_long_as_a_device_uses_it() => OnStage(stage =>
    {
        ExporterTarget target = stage.Create("outlived", s_size);
        DmaBuf buffer = target.Buffer;
        byte[] bytes = Bytes(52, s_size);
        stage.Fill(bytes, buffer);
        PuppetImporter importer = stage.Import("last user", buffer);
        stage.Drop(target);
        importer.Write(0, s_size);
        importer.Run("T2", "a request after the application had dropped its reference");
        stage.CheckBytes(bytes, importer.Device.Store[..s_size], "T2", "the bytes of a buffer whose application has dropped its reference");
        stage.Close(importer);
        stage.World.Eventually(() => buffer.References == 0, "T10", () => $"{buffer.References} references on {buffer.Name} are held by nobody.");
    });

    /// <summary>A device that reaches the exporter's own memory is given it there, another one in main memory, and both find the same bytes.</summary>
    [Fact]
    public virtual void N1_a_device_is_told_where_the_memory_lay() => OnStage(
        stage =>
        {
            byte[] bytes = Bytes(53, s_size);
            stage.Fill(bytes);
            RawDevice near = stage.Attach("near", location: DeviceLocation.Parse(Fixture.PeerLocation));
            Look(near, PlacementKind.PeerToPeer, "a device that reaches the exporter's memory directly");
            RawDevice far = stage.Attach("far", location: DeviceLocation.Parse("elsewhere/rp1"));
            Look(far, PlacementKind.SystemMemory, "a device that does not reach the exporter's memory");
            Look(near, PlacementKind.SystemMemory, "a device that shares the buffer with one that does not reach the exporter's memory");
            stage.Close(far);
            Look(near, null, "a device that is alone again");

            void Look(RawDevice device, PlacementKind? wanted, string who)
            {
                SgTable table = device.Map();
                stage.World.Check(wanted is null || table.Placement.Kind == wanted, "N1", $"{who} was given the buffer in {table.Placement.Kind} ({table.Placement.Reason}).");
                stage.World.Check(table.Placement.Reason.Length != 0, "N1", $"{who} was not told why the buffer lies in {table.Placement.Kind}.");
                stage.World.Check(
                    device.Placements.Any(p => p.Placement == table.Placement),
                    "N1",
                    $"the placement {table.Placement} is not counted.");
                stage.CheckBytes(bytes, device.Read(table, 0, s_size), "N1", $"the bytes that {who} finds");
                byte[] written = Bytes(54, 8192);
                device.Write(table, 4096, written);
                written.CopyTo(bytes, 4096);
                device.Unmap(table);
            }
        },
        needs: ExporterCapabilities.PeerToPeer);

    /// <summary>While others press the memory, requests go on, and nothing is lost.</summary>
    [Fact]
    public virtual void F7_requests_survive_that_memory_is_short() => OnStage(
        stage =>
        {
            ContractWorld world = stage.World;
            byte[] bytes = Bytes(55, s_size);
            stage.Fill(bytes);
            PuppetImporter importer = stage.Import();
            using (IMemoryPressure pressure = stage.Target.Presser!.Press(stage.Buffer))
            {
                var random = new Random(56);

                // For each of them as long as for one: memory is large, and machines are slow.
                for (long moves = 0; moves < 6 && pressure.Failure is null; moves = pressure.Moves)
                {
                    world.Eventually(
                        () =>
                        {
                            UnderPressure(stage, importer, bytes, random);
                            return pressure.Moves > moves || pressure.Failure is not null;
                        },
                        "F7",
                        "the buffer is not moved although its memory is under pressure.");
                }

                world.Check(pressure.Failure is null, "F7", $"another user of the memory has lost something: {pressure.Failure}");
                world.Check(pressure.Evictions > 0 && pressure.WorkingSet > stage.Buffer.Size, "F7", "under pressure nothing was evicted.");
            }

            stage.Settle();
            stage.CheckContents(bytes, "F7", "after the pressure");
        },
        needs: ExporterCapabilities.Pressure | ExporterCapabilities.Moves);

    // A device writes a part of the buffer, and reads all of it.
    private static void UnderPressure(ExporterStage stage, PuppetImporter importer, byte[] bytes, Random random)
    {
        byte[] brought = Bytes(random.Next(), 8192);
        int at = random.Next(s_size - brought.Length) & ~3;
        brought.CopyTo(importer.Device.Store);
        importer.Read(at, brought.Length);
        importer.Run("F7", "a request under pressure");
        brought.CopyTo(bytes, at);
        importer.Write(0, s_size, 16384);
        importer.Run("F7", "a request under pressure");
        stage.CheckBytes(bytes, importer.Device.Store.Slice(16384, s_size), "F7", "the bytes that a device reads while memory is short");
    }

    private static string ExpressionOf(ExporterStage stage) => stage.Target.Exported.Expression.Source;
}
