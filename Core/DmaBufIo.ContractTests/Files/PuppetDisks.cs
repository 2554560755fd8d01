using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.ContractTests;

/// <summary>The puppet disks of one world, in the order in which they were opened.</summary>
internal sealed class PuppetDisks
{
    private readonly Lock _lock = new();
    private readonly List<PuppetBlockDevice> _all = [];

    internal IReadOnlyList<PuppetBlockDevice> All
    {
        get
        {
            lock (_lock)
                return [.. _all];
        }
    }

    internal int Add(Func<int, PuppetBlockDevice> make)
    {
        lock (_lock)
        {
            _all.Add(make(_all.Count));
            return _all.Count - 1;
        }
    }
}

/// <summary>A fixture whose host knows the word <c>puppet</c> besides.</summary>
internal sealed class FixtureWithPuppets(IPluginFixture inner) : IPluginFixture
{
    public string? PluginFolder => inner.PluginFolder;

    public IReadOnlyList<string> OtherPluginFolders => inner.OtherPluginFolders;

    public IReadOnlyDictionary<string, string?> Settings => inner.Settings;

    /// <summary>The disks of the world that was configured last.</summary>
    internal PuppetDisks Disks { get; private set; } = new();

    public void Configure(DmaBufIoOptions options)
    {
        var disks = new PuppetDisks();
        Disks = disks;
        options.AddBuiltIn(() => new PuppetDisksPlugin(disks));
        inner.Configure(options);
    }
}

/// <summary>The plugin with the word <c>puppet:SIZE[,max=BYTES]</c>.</summary>
internal sealed class PuppetDisksPlugin(PuppetDisks disks) : IDmaBufIoPlugin
{
    public PluginInfo Info { get; } = new("puppet-disks", new Version(1, 0), "Disks that a contract holds up, fills and fails", PluginKinds.Importer) { Words = ["puppet"] };

    public void Register(IServiceCollection services, IConfiguration options) =>
        services.AddSingleton(disks).AddSingleton<IBlockDeviceFactory, PuppetDiskFactory>();
}

/// <summary>Makes the disks.</summary>
internal sealed class PuppetDiskFactory(PuppetDisks disks, IDmaFabric fabric) : IBlockDeviceFactory
{
    public string Word => "puppet";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly("max");
        if (!DeviceExpression.TryParseSize(expression.Text ?? "", out long size) || size <= 0 || size % 4096 != 0 || size > 1 << 30)
            throw expression.Broken(expression.Position, $"'{expression.Text}' is not a size in whole pages up to 1G", "Write for example puppet:4M");
        int max = (int)expression.Size("max", 32 << 10);
        int number = disks.Add(number =>
        {
            (DmaAddressSpace space, DmaPort port) = fabric.AddDevice($"puppet{number}");
            return new PuppetBlockDevice($"puppet{number}", space, port, (int)size, new QueueLimits(512) { MaxBytes = max });
        });
        return disks.All[number];
    }
}
