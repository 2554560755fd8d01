using System.Collections.Concurrent;
using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Models.Puppets;

/// <summary>
/// Block devices on strings by a word, so that they can be members of sets and stand under files: <c>puppet:NAME[,size=1M,lba=512,max=128K]</c>. For tests that build it in and look its devices
/// up by their names.
/// </summary>
/// <remarks>Any thread. A device is found as long as it is open; its fabric is the host's.</remarks>
public sealed class PuppetDevicesPlugin : IDmaBufIoPlugin
{
    private readonly ConcurrentDictionary<string, PuppetBlockDevice> _devices = new(StringComparer.Ordinal);

    /// <inheritdoc/>
    public PluginInfo Info { get; } = new(
        "puppets",
        typeof(PuppetDevicesPlugin).Assembly.GetName().Version!,
        "Block devices over memory that do what a test tells them",
        PluginKinds.Importer)
    {
        Words = ["puppet"],
        Options =
        [
            new PluginOption("size", "a size in whole blocks, up to 1G", "1M", "Bytes of the device"),
            new PluginOption("lba", "512 or 4096", "512", "Bytes of a logical block"),
            new PluginOption("max", "a size in whole blocks", "128K", "The largest bio"),
        ],
    };

    /// <summary>The devices that are open, by the names in their expressions.</summary>
    public IReadOnlyDictionary<string, PuppetBlockDevice> Devices => _devices;

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options) =>
        services.AddSingleton(_devices).AddSingleton<IBlockDeviceFactory, PuppetDeviceFactory>();
}

/// <summary>The word <c>puppet</c>.</summary>
internal sealed class PuppetDeviceFactory(IDmaFabric fabric, ConcurrentDictionary<string, PuppetBlockDevice> devices) : IBlockDeviceFactory
{
    public string Word => "puppet";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        expression.AllowOnly("size", "lba", "max");
        if (members.Count != 0)
            throw expression.Broken(expression.Members[0].Position, "a puppet stands on no other device", "Remove the parentheses");
        if (string.IsNullOrEmpty(expression.Text))
            throw expression.Broken(expression.Position, "a puppet needs a name", "Write for example puppet:a");
        string name = expression.Text;
        long size = expression.Size("size", 1 << 20);
        long block = expression.Size("lba", 512);
        long largest = expression.Size("max", 128 << 10);
        if (block is not (512 or 4096))
            throw expression.Broken(expression.Options["lba"].Position, $"{block} is no logical block", "Write lba=512 or lba=4096");
        if (size <= 0 || size > 1 << 30 || size % block != 0)
            throw expression.Broken(At(expression, "size"), $"{size} bytes are no device of blocks of {block}", "Write whole blocks, up to 1G");
        if (largest < block || largest > 1 << 30 || largest % block != 0)
            throw expression.Broken(At(expression, "max"), $"{largest} bytes are no bio of blocks of {block}", "Write whole blocks, up to 1G");
        (DmaAddressSpace space, DmaPort port) = fabric.AddDevice($"puppet {name}");
        var device = new PuppetBlockDevice(name, space, port, (int)size, new QueueLimits((int)block) { MaxBytes = (int)largest })
        {
            Ended = () =>
            {
                devices.TryRemove(name, out _);
                fabric.RemoveDevice(space);
            },
        };
        devices[name] = device;
        return device;
    }

    private static int At(DeviceExpression expression, string option) =>
        expression.Options.TryGetValue(option, out DeviceOption given) ? given.Position : expression.Position;
}
