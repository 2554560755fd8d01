using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Native;
using DmaBufIo.Rings;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Tests.Rings;

public sealed class RegistrationRuleTests
{
    private static readonly RingOptions s_small = new() { Name = "small", Entries = 4, BufferSlots = 2 };

    [Fact]
    public void R1_a_registration_names_buffer_and_file_and_covers_the_whole_buffer()
    {
        using var stage = new Stage();
        Assert.Same(stage.Exporter.Buffer, stage.Token.Buffer);
        Assert.Same(stage.File, stage.Token.Owner);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, Stage.BufferSize - 512, 0));
    }

    [Theory]
    [InlineData(1UL, 0UL, 0UL)]
    [InlineData(0UL, 1UL, 0UL)]
    [InlineData(0UL, (ulong)Stage.BufferSize, 0UL)]
    [InlineData(0UL, 0UL, 1UL)]
    [InlineData(ulong.MaxValue, 0UL, 0UL)]
    public void R1_an_address_a_size_or_a_reserved_field_that_is_not_zero_is_EINVAL(ulong address, ulong length, ulong reserved)
    {
        using var stage = new Stage(register: false);
        AssertRefused(stage, Errno.EINVAL, Good(stage) with { Address = address, Length = length, Reserved = reserved });
    }

    [Fact]
    public void R1_no_target_file_or_a_closed_one_is_EBADF()
    {
        using var stage = new Stage(register: false);
        AssertRefused(stage, Errno.EBADF, Good(stage) with { File = null });
        var closed = new BlockDeviceFile(stage.Device);
        closed.Put();
        AssertRefused(stage, Errno.EBADF, Good(stage) with { File = closed });
    }

    [Fact]
    public void R1_no_buffer_or_a_freed_one_or_a_closed_descriptor_is_EBADF()
    {
        using var stage = new Stage(register: false);
        AssertRefused(stage, Errno.EBADF, Good(stage) with { Buffer = null });
        var freed = DmaBufIo.Models.Exporters.MovingExporter.Create("freed", 4096);
        freed.Buffer.Put();
        AssertRefused(stage, Errno.EBADF, Good(stage) with { Buffer = freed.Buffer });
        MemfdHandle closed = MemfdHandle.Create("closed", 4096);
        closed.Dispose();
        AssertRefused(stage, Errno.EBADF, Good(stage) with { Buffer = null, Descriptor = closed });
        using var unknown = new SafeFileHandle(99999, ownsHandle: false);
        AssertRefused(stage, Errno.EBADF, Good(stage) with { Buffer = null, Descriptor = unknown });
    }

    [Fact]
    public void R1_a_descriptor_that_is_no_dma_buf_is_EINVAL()
    {
        using var stage = new Stage(register: false);
        using MemfdHandle memfd = MemfdHandle.Create("plain", 4096);
        memfd.SealAgainstShrinking();
        AssertRefused(stage, Errno.EINVAL, Good(stage) with { Buffer = null, Descriptor = memfd });
        using SafeFileHandle file = System.IO.File.OpenHandle(typeof(RegistrationRuleTests).Assembly.Location);
        AssertRefused(stage, Errno.EINVAL, Good(stage) with { Buffer = null, Descriptor = file });
        AssertRefused(stage, Errno.EINVAL, Good(stage) with { Descriptor = memfd });
    }

    [Fact]
    public void R1_a_descriptor_that_stands_for_a_dma_buf_registers_it_and_stays_the_callers()
    {
        using var stage = new Stage(register: false);
        using var exported = new Memory.ExportedBuffer(65536);
        using (MemfdHandle duplicate = MemfdHandle.Duplicate(exported.Buffer.Descriptor!))
        {
            stage.Ring.RegisterBuffer(3, new BufferRegistration { Descriptor = duplicate, File = stage.File });
            Assert.False(duplicate.IsClosed);
        }

        Assert.Same(exported.Buffer, stage.Ring.TokenAt(3)!.Buffer);
        Assert.Equal(2, exported.Buffer.References);
        DmaBufIo.Tokens.DmaBufToken token = stage.Ring.RemoveBuffer(3).Token!;
        Assert.Equal(Errno.Ok, token.WaitReleased(TestContext.Current.CancellationToken));
        Assert.Equal(1, exported.Buffer.References);
    }

    [Fact]
    public void R1_a_target_without_the_operation_is_EOPNOTSUPP_and_an_unknown_direction_EINVAL()
    {
        using var stage = new Stage(register: false);
        AssertRefused(stage, Errno.EINVAL, Good(stage) with { Direction = DmaDirection.None });
        AssertRefused(stage, Errno.EINVAL, Good(stage) with { Direction = (DmaDirection)4 });
        stage.Device.TakesTokens = false;
        AssertRefused(stage, Errno.EOPNOTSUPP, Good(stage));
    }

    [Fact]
    public void R1_a_slot_outside_the_table_is_EINVAL_and_a_ring_without_a_table_answers_ENXIO()
    {
        using var stage = new Stage(ring: s_small, register: false);
        foreach (int slot in (int[])[-1, 2, int.MinValue, int.MaxValue])
        {
            Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(slot, Good(stage))));
            Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => stage.Ring.RemoveBuffer(slot)));
            Assert.Null(stage.Ring.TokenAt(slot));
        }

        Assert.Equal(Errno.ENXIO, StageVerbs.Refusal(() => stage.Ring.RemoveBuffer(1)));
        using var tableless = new Ring(s_small with { BufferSlots = 0 });
        Assert.Equal(Errno.ENXIO, StageVerbs.Refusal(() => tableless.RegisterBuffer(0, Good(stage))));
        Assert.Equal(Errno.ENXIO, StageVerbs.Refusal(() => tableless.RemoveBuffer(0)));
    }

    [Fact]
    public void R1_T11_a_device_that_is_gone_answers_ENODEV_to_a_registration()
    {
        using var stage = new Stage(register: false);
        stage.Device.Device.MarkRemoved();
        AssertRefused(stage, Errno.ENODEV, Good(stage));
    }

    [Fact]
    public void R1_the_checks_come_in_this_order_slot_then_fields_then_file_then_buffer_then_the_files_own()
    {
        using var stage = new Stage(ring: s_small, register: false);
        var closed = new BlockDeviceFile(stage.Device);
        closed.Put();
        var buffered = new BlockDeviceFile(stage.Device, OpenFlags.None);
        stage.Device.TakesTokens = false;
        BufferRegistration all = new() { Address = 1, File = closed };
        Assert.Contains("slots", Problem(stage, 2, all), StringComparison.Ordinal);
        Assert.Contains("reserved", Problem(stage, 0, all), StringComparison.Ordinal);
        Assert.Contains("target file", Problem(stage, 0, all with { Address = 0 }), StringComparison.Ordinal);
        Assert.Contains("no buffer", Problem(stage, 0, new BufferRegistration { File = buffered }), StringComparison.Ordinal);
        Assert.Contains("buffered", Problem(stage, 0, Good(stage) with { File = buffered }), StringComparison.Ordinal);
        Assert.Equal(1, stage.Exporter.Buffer.References);
        buffered.Put();
    }

    [Fact]
    public void R1_every_refusal_names_the_slot_the_rule_and_a_remedy_and_leaves_nothing_behind()
    {
        using var stage = new Stage(register: false);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => stage.Ring.RegisterBuffer(5, Good(stage) with { Length = 7 }));
        Assert.Equal(("Rings", "slot 5 of ring0", "R1"), (refused.Layer, refused.Subject, refused.Rule));
        Assert.NotEmpty(refused.Remedy);
    }

    [Fact]
    public void R1_a_slot_can_be_updated_while_requests_run_and_the_old_registration_lives_until_they_end()
    {
        using var stage = new Stage();
        new Random(1).NextBytes(stage.Device.Store);
        DmaBufIo.Tokens.DmaBufToken old = stage.Token;
        stage.Device.Hold = true;
        stage.Read(4096, 0, 0, 1);
        stage.Submit();
        stage.Ring.RegisterBuffer(0, Good(stage));
        Assert.NotSame(old, stage.Token);
        Assert.False(old.IsReleasing);
        stage.Read(4096, 4096, 4096, 2);
        stage.Submit();
        Assert.All(stage.Drain(), static c => Assert.Equal((Errno.Ok, 4096L), (c.Status, c.Bytes)));
        Assert.Equal(Errno.Ok, old.WaitReleased(TestContext.Current.CancellationToken));
        Assert.False(stage.Token.IsReleasing);
        Assert.True(stage.Exporter.Region.Span(0, 8192).SequenceEqual(stage.Device.Store[..8192]));
    }

    private static BufferRegistration Good(Stage stage) => new() { Buffer = stage.Exporter.Buffer, File = stage.File };

    private static string Problem(Stage stage, int slot, BufferRegistration registration) =>
        Assert.Throws<DmaBufIoException>(() => stage.Ring.RegisterBuffer(slot, registration)).Problem;

    private static void AssertRefused(Stage stage, Errno errno, BufferRegistration registration)
    {
        int buffer = stage.Exporter.Buffer.References;
        int file = stage.File.References;
        Assert.Equal(errno, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(0, registration)));
        Assert.Null(stage.Ring.TokenAt(0));
        Assert.Equal((buffer, file, 0), (stage.Exporter.Buffer.References, stage.File.References, stage.Device.LiveTokens));
        Assert.Equal(0, stage.Exporter.Buffer.Attachments);
    }
}
