using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Tests.Harness;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Pci;
using DmaBufIo.Pci.Model;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Importers.NvmePci.Tests;

public sealed class ProbeTests
{
    private const long Cap = 0x00;
    private const long Csts = 0x1C;

    [Theory]
    [InlineData(512, 5, 128 << 10)]
    [InlineData(4096, 7, 512 << 10)]
    [InlineData(512, 1, 8192)]
    [InlineData(512, 10, 4 << 20)]
    [InlineData(512, 20, 4 << 20)]
    [InlineData(512, 0, 4 << 20)]
    public void P12_limits_are_those_of_the_controller_and_of_the_list_memory(int lba, int mdts, int maxBytes) => Rig.With(
        rig =>
        {
            Assert.Equal(lba, rig.Device.Limits.LogicalBlockSize);
            Assert.Equal(maxBytes, rig.Device.Limits.MaxBytes);
            Assert.Equal(4, rig.Device.Limits.DmaAlignment);

            // B3: whatever the map is made of, whole requests fit, because each page is a segment already.
            Assert.Equal(maxBytes, rig.Device.Limits.MaxBytesFor(4096));
        },
        new NvmeModelOptions { SizeBytes = 1 << 20, LbaSize = lba, Mdts = mdts, OwnThread = false });

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_namespace_becomes_a_block_device_with_name_capacity_and_description(bool readOnly)
    {
        string path = Path.GetTempFileName();
        File.WriteAllBytes(path, new byte[10_000]);
        try
        {
            Rig.With(
                rig =>
                {
                    Assert.Equal("nvme0n1", rig.Device.Name);
                    Assert.Equal(12288, rig.Device.Capacity);
                    Assert.Equal(readOnly, rig.Device.IsReadOnly);
                    Assert.False(rig.Device.IsRemoved);
                    Assert.Contains("DmaBufIo NVMe model", rig.Device.Description, StringComparison.Ordinal);
                    Assert.Matches("serial [0-9A-F]{20},", rig.Device.Description);
                    Assert.Empty(rig.Binding.SkippedNamespaces);
                },
                new NvmeModelOptions { Path = path, LbaSize = 4096, ReadOnly = readOnly });
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void The_driver_matches_NVMe_controllers_and_nothing_else()
    {
        var driver = new NvmePciDriver();
        Assert.True(driver.Matches(new PciIdentity(1, 2, 0x010802)));
        Assert.False(driver.Matches(new PciIdentity(1, 2, 0x010803)));
        Assert.False(driver.Matches(new PciIdentity(1, 2, 0x020000)));
    }

    [Fact]
    public void T11_a_function_that_is_gone_is_not_probed() =>
        AssertRefused(static f => f.OnRead = static (_, _) => uint.MaxValue, Errno.ENODEV);

    [Fact]
    public void T11_a_function_that_goes_while_it_is_enabled_answers_ENODEV()
    {
        bool enabled = false;
        AssertRefused(
            f =>
            {
                f.OnWrite = (offset, value) =>
                {
                    enabled |= offset == 0x14 && (value & 1) != 0;
                    return false;
                };
                f.OnRead = (_, value) => enabled ? uint.MaxValue : value;
            },
            Errno.ENODEV);
    }

    [Fact]
    public void A_controller_that_does_not_get_ready_in_the_time_it_states_answers_ETIMEDOUT() => AssertRefused(
        static f => f.OnRead = static (offset, value) => offset switch
        {
            Cap => value & 0x00FF_FFFF, // TO = 0: half a second
            Csts => 0,
            _ => value,
        },
        Errno.ETIMEDOUT);

    [Fact]
    public void A_controller_that_reports_a_fatal_error_answers_EIO() => AssertRefused(
        static f => f.OnRead = static (offset, value) => offset == Csts ? (value & ~1u) | 2 : value, Errno.EIO);

    [Fact]
    public void A_controller_without_the_NVM_command_set_is_refused() => AssertRefused(
        static f => f.OnRead = static (offset, value) => offset == Cap + 4 ? value & ~(1u << 5) : value, Errno.EOPNOTSUPP);

    [Fact]
    public void A_controller_that_is_found_enabled_is_disabled_first()
    {
        using var iommu = new ModelIommu();
        var model = new NvmeControllerModel(Rig.Small, iommu);
        var first = new FaultyFunction(model);

        // The driver of before went away without stopping anything.
        _ = new NvmePciDriver().Probe(first, "nvme0");
        var second = new FaultyFunction(model);
        NvmeBinding binding = new NvmePciDriver().Probe(second, "nvme1");
        Assert.Equal("nvme1n1", binding.BlockDevices[0].Name);
        Assert.Empty(model.Violations);
        binding.Dispose();
        Assert.Equal(0, iommu.Faults);
    }

    [Fact]
    public void A_controller_that_cannot_be_disabled_is_reset_as_a_function()
    {
        bool stuck = true;
        Rig.With(
            static rig => Assert.Equal(1, rig.Function.FunctionResets),
            prepare: f => f.OnRead = (offset, value) => offset switch
            {
                Cap => value & 0x00FF_FFFF,
                Csts when stuck && f.FunctionResets == 0 => 1,
                _ => value,
            });
        stuck = false;
    }

    [Fact]
    public void P1_a_controller_with_larger_pages_than_the_host_works_or_says_why_not()
    {
        // CAP.MPSMIN = 1: pages of 8 KiB in an address space that gives multiples of 4 KiB.
        using var iommu = new ModelIommu();
        var model = new NvmeControllerModel(Rig.Small, iommu);
        var function = new FaultyFunction(model) { OnRead = static (offset, value) => offset == Cap + 4 ? value | (1u << 16) : value };
        try
        {
            using NvmeBinding binding = new NvmePciDriver().Probe(function, "nvme0");
            Assert.Equal(1 << 18, binding.BlockDevices[0].Limits.MaxBytes);
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.EOPNOTSUPP)
        {
            Assert.Equal("P13", e.Rule);
            model.Dispose();
        }

        Assert.Empty(model.Violations);
        Assert.Equal(0, iommu.LeakedMappings);
    }

    [Theory]
    [InlineData(8, 0, "2^8")]
    [InlineData(13, 0, "2^13")]
    [InlineData(9, 8, "8 bytes of metadata")]
    public void A_namespace_in_a_format_that_the_driver_cannot_work_with_is_refused_with_the_reason(int shift, int metadata, string reason)
    {
        using var iommu = new ModelIommu();
        using var model = new NvmeControllerModel(Rig.Small, iommu);
        var function = new FaultyFunction(model);
        function.AfterAdvance = () =>
        {
            // The data page of the admin queue; byte 26 selects format 0, which is described from byte 128 on.
            if (!function.TryMemoryOf("nvme0 admin queue", out MemoryRange memory))
                return;
            Span<byte> data = memory.Region.Span(8192, 4096);
            if (data[130] == 9)
                (data[128], data[130]) = ((byte)metadata, (byte)shift);
        };
        var e = Assert.Throws<DmaBufIoException>(() => new NvmePciDriver().Probe(function, "nvme0"));
        Assert.Equal(Errno.EOPNOTSUPP, e.Errno);
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_plugin_registers_a_driver_with_the_options_of_its_section()
    {
        var plugin = new NvmePciPlugin();
        Assert.Equal(("nvme-pci", PluginKinds.Importer), (plugin.Info.Name, plugin.Info.Kinds));
        var services = new ServiceCollection();
        plugin.Register(services, Section(("queueDepth", "7"), ("timeout", "1000")));
        using ServiceProvider provider = services.BuildServiceProvider();
        IPciDriver driver = provider.GetRequiredService<IPciDriver>();
        Assert.True(driver.Matches(new PciIdentity(0, 0, 0x010802)));

        using var iommu = new ModelIommu();
        using IPciBinding binding = driver.Probe(new NvmeControllerModel(Rig.Small, iommu), "nvme3");
        using var lane = new Lane(binding.BlockDevices[0], depth: 100);
        int taken = 0;
        while (lane.TrySubmitFlush(taken))
            taken++;
        Assert.Equal(7, taken);
        lane.Finish();
    }

    [Theory]
    [InlineData("queueDepth", "0")]
    [InlineData("queueDepth", "many")]
    [InlineData("timeout", "-1")]
    [InlineData("timeout", "3600001")]
    [InlineData("queuedepht", "5")]
    public void A_wrong_option_is_refused_by_name(string name, string value)
    {
        var e = Assert.Throws<DmaBufIoException>(() => new NvmePciPlugin().Register(new ServiceCollection(), Section((name, value))));
        Assert.Equal(Errno.EINVAL, e.Errno);
        Assert.Contains(name, e.Message, StringComparison.OrdinalIgnoreCase);
    }

    private static IConfiguration Section(params (string Key, string Value)[] options) =>
        new ConfigurationBuilder().AddInMemoryCollection(options.Select(static o => KeyValuePair.Create(o.Key, (string?)o.Value))).Build();

    private static void AssertRefused(Action<FaultyFunction> prepare, Errno errno)
    {
        using var iommu = new ModelIommu();
        using var model = new NvmeControllerModel(Rig.Small, iommu);
        var function = new FaultyFunction(model);
        prepare(function);
        var e = Assert.Throws<DmaBufIoException>(() => new NvmePciDriver().Probe(function, "nvme0"));
        Assert.Equal(errno, e.Errno);

        // The caller keeps the function, and the driver leaves nothing in its address space.
        Assert.Equal(0, function.Disposals);
        Assert.Equal(0, iommu.LiveMappings);
    }
}
