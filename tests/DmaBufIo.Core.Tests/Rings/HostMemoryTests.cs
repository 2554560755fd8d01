using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Memory;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>Memory of the application's own takes the same way as a foreign buffer (PROTOCOL §9).</summary>
public sealed class HostMemoryTests : IDisposable
{
    private const int Size = 65536;
    private readonly MemoryRegion _memory = MemoryRegion.Allocate("own", Size);

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void Registered_memory_is_read_into_and_written_from_through_one_token_and_one_map()
    {
        using var stage = new Stage(register: false);
        stage.Ring.RegisterBuffer(0, Own(stage));
        var random = new Random(1);
        random.NextBytes(stage.Device.Store);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 8192), stage.ReadOnce(8192, 4096, 512));
        Assert.True(_memory.Span(4096, 8192).SequenceEqual(stage.Device.Store.Slice(512, 8192)));
        random.NextBytes(_memory.Span(0, Size));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), stage.WriteOnce(4096, 61440, 1 << 20));
        Assert.True(_memory.Span(61440, 4096).SequenceEqual(stage.Device.Store.Slice(1 << 20, 4096)));
        Assert.Equal((1L, 1), (stage.Token.MapsMade, stage.Device.LiveMaps));
        End(stage);
    }

    [Fact]
    public void R2_the_whole_region_is_registered_and_nothing_beyond()
    {
        using var stage = new Stage(register: false);
        stage.Ring.RegisterBuffer(0, Own(stage));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, Size - 512, 0));
        Assert.Equal(new RingCompletion(1, Errno.EFAULT, 0), stage.ReadOnce(1024, Size - 512, 0));
        End(stage);
    }

    [Fact]
    public void One_region_is_one_buffer_and_one_attachment_per_device_whatever_slots_files_and_rings_it_is_registered_with()
    {
        using var stage = new Stage(register: false);
        using var second = new Ring(new RingOptions { Name = "ring1", Entries = 4 });
        PuppetBlockDevice other = stage.AddDevice("puppet1");
        var again = new BlockDeviceFile(stage.Device);
        var elsewhere = new BlockDeviceFile(other);
        stage.Ring.RegisterBuffer(0, Own(stage));
        stage.Ring.RegisterBuffer(1, Own(stage) with { File = again });
        stage.Ring.RegisterBuffer(2, Own(stage) with { File = elsewhere });
        second.RegisterBuffer(0, Own(stage));
        DmaBuf buffer = stage.Token.Buffer;
        Assert.All([stage.Ring.TokenAt(1), stage.Ring.TokenAt(2), second.TokenAt(0)], t => Assert.Same(buffer, t!.Buffer));
        Assert.Equal((4, 2), (buffer.References, buffer.Attachments));

        // Two maps on one device, one mapping of the memory.
        long before = stage.Iommu.LiveMappings;
        Assert.True(stage.Ring.TryReadFixed(stage.File, 0, 0, 512, 0, 1));
        Assert.True(stage.Ring.TryReadFixed(again, 1, 512, 512, 0, 2));
        Assert.All(stage.Run(), static c => Assert.Equal(Errno.Ok, c.Status));
        Assert.Equal((2, before + 1), (stage.Device.LiveMaps, stage.Iommu.LiveMappings));

        second.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
        for (int slot = 0; slot < 3; slot++)
            stage.Ring.RemoveBuffer(slot).WaitReleased(TestContext.Current.CancellationToken);
        Assert.Equal((0, 0, before), (buffer.References, buffer.Attachments, stage.Iommu.LiveMappings));
        again.Put();
        elsewhere.Put();
    }

    [Fact]
    public void The_buffer_ends_with_the_last_registration_and_the_memory_stays_the_applications()
    {
        using var stage = new Stage(register: false);
        stage.Ring.RegisterBuffer(0, Own(stage));
        stage.Ring.RegisterBuffer(1, Own(stage));
        DmaBuf buffer = stage.Token.Buffer;
        stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken);
        Assert.Equal(1, buffer.References);
        stage.Ring.RemoveBuffer(1).WaitReleased(TestContext.Current.CancellationToken);
        Assert.Equal(0, buffer.References);
        _memory.Fill(7);
        stage.Ring.RegisterBuffer(0, Own(stage));
        Assert.NotSame(buffer, stage.Token.Buffer);
        Assert.Equal(Errno.Ok, stage.WriteOnce(512, 0, 0).Status);
        Assert.Equal(7, stage.Device.Store[511]);
        End(stage);
    }

    [Fact]
    public void It_never_moves_and_says_what_it_is_made_of()
    {
        DmaBuf buffer = DmaBuf.FromMemory(_memory);
        BufferBacking backing = buffer.Describe();
        Assert.Equal((BackingKind.HostMemory, false), (backing.Kind, backing.CanMove));
        Assert.Equal([new MemoryRange(_memory, 0, Size)], backing.Ranges);
        DmaBuf same = DmaBuf.FromMemory(_memory);
        Assert.Same(buffer, same);
        same.Put();
        buffer.Put();
        Assert.Equal(0, buffer.References);
    }

    [Fact]
    public void R1_memory_together_with_a_buffer_or_a_descriptor_is_EINVAL_and_disposed_memory_EBADF()
    {
        using var stage = new Stage(register: false);
        using var exported = new Memory.ExportedBuffer(4096);
        Refused(stage, Errno.EINVAL, Own(stage) with { Buffer = stage.Exporter.Buffer });
        Refused(stage, Errno.EINVAL, Own(stage) with { Descriptor = exported.Buffer.Descriptor });
        Refused(stage, Errno.EINVAL, Own(stage) with { Buffer = stage.Exporter.Buffer, Descriptor = exported.Buffer.Descriptor });
        Refused(stage, Errno.EINVAL, Own(stage) with { Length = Size });
        Refused(stage, Errno.EINVAL, Own(stage) with { Mapping = (BufferMapping)2 });
        var gone = MemoryRegion.Allocate("gone", 4096);
        gone.Dispose();
        Refused(stage, Errno.EBADF, Own(stage) with { Memory = gone });
        Assert.Equal((1, 1, 1), (stage.Exporter.Buffer.References, exported.Buffer.References, stage.File.References));
    }

    [Fact]
    public void R1_a_refused_registration_of_memory_leaves_no_buffer_behind()
    {
        using var stage = new Stage(register: false);
        stage.Device.TakesTokens = false;
        Refused(stage, Errno.EOPNOTSUPP, Own(stage));
        stage.Device.TakesTokens = true;
        DmaBuf buffer = DmaBuf.FromMemory(_memory);
        Assert.Equal(1, buffer.References);
        stage.Device.TakesTokens = false;
        Refused(stage, Errno.EOPNOTSUPP, Own(stage));
        Assert.Equal((1, 0), (buffer.References, buffer.Attachments));
        buffer.Put();
    }

    [Fact]
    public void R6_memory_that_is_removed_with_requests_in_flight_is_released_after_the_last_of_them()
    {
        using var stage = new Stage(register: false);
        stage.Ring.RegisterBuffer(0, Own(stage) with { Tag = 900 });
        new Random(6).NextBytes(stage.Device.Store);
        stage.Device.Hold = true;
        stage.Read(4096, 0, 0, 1);
        stage.Submit();
        DmaBuf buffer = stage.Token.Buffer;
        RemovedBuffer removed = stage.Ring.RemoveBuffer(0);
        Assert.Equal((false, 1), (removed.IsReleased, buffer.References));
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal([new RingCompletion(1, Errno.Ok, 4096), new RingCompletion(900, Errno.Ok, 0)], stage.Reap(2));
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken));
        Assert.Equal((true, 0), (removed.IsReleased, buffer.References));
        Assert.True(_memory.Span(0, 4096).SequenceEqual(stage.Device.Store[..4096]));
    }

    [Fact]
    public void Threads_that_register_and_remove_one_region_at_the_same_time_end_with_nothing()
    {
        using var stage = new Stage(register: false);
        var threads = Enumerable.Range(0, 4).Select(_ => SyncTests.Actor.Start("registrar", () =>
        {
            for (int i = 0; i < 300; i++)
            {
                DmaBuf buffer = DmaBuf.FromMemory(_memory);
                Assert.True(buffer.References > 0);
                Assert.Equal(Size, buffer.Size);
                buffer.Put();
            }
        })).ToList();
        threads.ForEach(static t => t.Join());
        DmaBuf last = DmaBuf.FromMemory(_memory);
        Assert.Equal(1, last.References);
        last.Put();
    }

    private static void Refused(Stage stage, Errno errno, BufferRegistration registration)
    {
        Assert.Equal(errno, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(0, registration)));
        Assert.Null(stage.Ring.TokenAt(0));
        Assert.Null(stage.Ring.MappingAt(0));
    }

    /// <summary>The memory is freed by the test's end: nothing may be mapped then.</summary>
    private static void End(Stage stage) =>
        Assert.Equal(Errno.Ok, stage.Ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken));

    private BufferRegistration Own(Stage stage) => new() { Memory = _memory, File = stage.File };
}
