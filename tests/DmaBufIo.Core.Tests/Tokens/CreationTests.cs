using System.Reflection;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

public sealed class CreationTests
{
    [Fact]
    public void T1_a_file_without_the_operation_answers_EOPNOTSUPP()
    {
        using var stage = new Stage(register: false);
        stage.Device.TakesTokens = false;
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(
            () => stage.File.OpenToken(stage.Exporter.Buffer, DmaDirection.Bidirectional));
        Assert.Equal((Errno.EOPNOTSUPP, "T1"), (refused.Errno, refused.Rule));
        Assert.Equal((1, 1), (stage.Exporter.Buffer.References, stage.File.References));
    }

    [Theory]
    [InlineData(DmaDirection.None)]
    [InlineData((DmaDirection)4)]
    public void T1_a_creation_needs_a_direction(DmaDirection direction)
    {
        using var stage = new Stage(register: false);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => stage.File.OpenToken(stage.Exporter.Buffer, direction));
        Assert.Equal((Errno.EINVAL, "T1"), (refused.Errno, refused.Rule));
        Assert.Equal((1, 1), (stage.Exporter.Buffer.References, stage.File.References));
    }

    [Theory]
    [InlineData(DmaDirection.ToDevice, Errno.EACCES, Errno.Ok)]
    [InlineData(DmaDirection.FromDevice, Errno.Ok, Errno.EACCES)]
    [InlineData(DmaDirection.Bidirectional, Errno.Ok, Errno.Ok)]
    public void T1_a_registration_for_one_direction_refuses_the_other(DmaDirection direction, Errno read, Errno write)
    {
        using var stage = new Stage(register: false);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File, Direction = direction });
        stage.Read(userData: 1);
        stage.Write(userData: 2);
        Assert.Equal([read, write], stage.Run().OrderBy(static c => c.UserData).Select(static c => c.Status));
    }

    [Fact]
    public void T2_a_token_takes_one_reference_of_buffer_and_file_and_drops_each_once_at_its_end()
    {
        using var stage = new TokenStage();
        Assert.Equal((2, 1), (stage.Buffer.References, stage.Owner.References));
        stage.Drop(stage.Take());
        stage.Release();
        stage.Token.Release();
        Assert.Equal((1, 0), (stage.Buffer.References, stage.Owner.References));
        Assert.Equal((1, 1), (stage.Owner.Gets, stage.Owner.Puts));
    }

    [Theory]
    [InlineData("the operation throws")]
    [InlineData("the file has no operation")]
    [InlineData("setup throws before attaching")]
    [InlineData("setup throws after attaching")]
    [InlineData("setup and then release throw")]
    [InlineData("the file is closed")]
    [InlineData("the device is gone")]
    public void T2_a_creation_that_fails_leaves_no_reference_behind(string failure)
    {
        using var iommu = new ModelIommu();
        var device = new DmaDevice("device", iommu.AddDevice("device").Space);
        MovingExporter exporter = MovingExporter.Create("buffer", 4096);
        var owner = new CountingOwner();
        ScriptedDriver? driver = null;
        var wanted = new DmaBufIoException(Errno.ENOMEM, "Test", "driver", failure, "nothing");
        if (failure == "the file is closed")
            owner.FailGet = () => wanted;
        if (failure == "the device is gone")
            device.MarkRemoved();

        TokenDriver? Create(DmaBuf buffer, DmaDirection direction)
        {
            if (failure == "the operation throws")
                throw wanted;
            if (failure == "the file has no operation")
                return null;
            driver = new ScriptedDriver(buffer, direction, device);
            if (failure.StartsWith("setup", StringComparison.Ordinal))
                driver.BeforeAttach = failure.Contains("before", StringComparison.Ordinal) ? () => throw wanted : null;
            if (failure.StartsWith("setup", StringComparison.Ordinal))
                driver.InSetup = () => throw wanted;
            if (failure.Contains("release", StringComparison.Ordinal))
                driver.InRelease = static () => throw new InvalidOperationException("release fails too");
            return driver;
        }

        DmaBufIoException thrown = Assert.Throws<DmaBufIoException>(
            () => DmaBufToken.Create(owner, exporter.Buffer, DmaDirection.Bidirectional, TokenOptions.Default, Create));
        Assert.Equal(failure switch { "the file has no operation" => Errno.EOPNOTSUPP, "the device is gone" => Errno.ENODEV, _ => Errno.ENOMEM },
            thrown.Errno);
        Assert.Equal((1, 0, 0), (exporter.Buffer.References, owner.References, exporter.Buffer.Attachments));

        // The driver's own partial state is undone by its release, once.
        if (driver is { InRelease: null })
            Assert.Equal(1, driver.ReleaseCalls);
        exporter.Buffer.Put();
    }

    [Fact]
    public void T3_the_three_operations_are_abstract_so_a_driver_that_leaves_one_out_does_not_compile()
    {
        foreach (string name in (string[])["Map", "Unmap", "Release"])
        {
            MethodInfo operation = typeof(TokenDriver).GetMethod(name, BindingFlags.Instance | BindingFlags.Public)!;
            Assert.True(operation.IsAbstract, $"{name} is not abstract: a driver may leave it out");
        }
    }

    [Fact]
    public void T13_a_registration_is_refused_to_another_file_also_to_another_open_of_the_device()
    {
        using var stage = new Stage();
        var other = new BlockDeviceFile(stage.Device);
        Assert.True(stage.Ring.TryReadFixed(other, 0, 0, 4096, 0, 7));
        Assert.Equal(new RingCompletion(7, Errno.EBADF, 0), Assert.Single(stage.Run()));
        Assert.Equal(0, stage.Token.MapsMade);
        other.Put();
    }
}
