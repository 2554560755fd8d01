using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Models.Puppets;

/// <summary>
/// Block devices on strings by a word, so that they can be members of sets and stand under files: <c>puppet:NAME[,size=1M,lba=512,max=128K]</c>. For tests that build it in and look its devices
/// up, by their names or in their order.
/// </summary>
/// <remarks>Any thread. The fabric of its devices is the host's.</remarks>
public sealed class PuppetDevicesPlugin : IDmaBufIoPlugin
{
    private readonly Lock _lock = new();
    private readonly List<PuppetBlockDevice> _opened = [];
    private readonly List<(string Name, PuppetBlockDevice Device)> _open = [];

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

    /// <summary>The devices that are open, by the names in their expressions; of several of one name the last. A copy.</summary>
    public IReadOnlyDictionary<string, PuppetBlockDevice> Devices
    {
        get
        {
            var devices = new Dictionary<string, PuppetBlockDevice>(StringComparer.Ordinal);
            lock (_lock)
            {
                foreach ((string name, PuppetBlockDevice device) in _open)
                    devices[name] = device;
            }

            return devices;
        }
    }

    /// <summary>All that were opened, in that order, also those that are closed: what they still hold is a leak of who stood on them. A copy.</summary>
    public IReadOnlyList<PuppetBlockDevice> Opened
    {
        get
        {
            lock (_lock)
                return [.. _opened];
        }
    }

    /// <inheritdoc/>
    public void Register(IServiceCollection services, IConfiguration options) =>
        services.AddSingleton(this).AddSingleton<IBlockDeviceFactory, PuppetDeviceFactory>();

    /// <summary>Makes a device; its name in the fabric has a number where one of the name is open.</summary>
    internal PuppetBlockDevice Add(string name, Func<string, PuppetBlockDevice> make)
    {
        lock (_lock)
        {
            bool isTaken = _open.Exists(o => o.Name == name);
            PuppetBlockDevice device = make(isTaken ? $"{name} {_opened.Count}" : name);
            _opened.Add(device);
            _open.Add((name, device));
            return device;
        }
    }

    internal void Remove(PuppetBlockDevice device)
    {
        lock (_lock)
            _open.RemoveAll(o => ReferenceEquals(o.Device, device));
    }
}

/// <summary>The word <c>puppet</c>.</summary>
internal sealed class PuppetDeviceFactory(IDmaFabric fabric, PuppetDevicesPlugin plugin) : IBlockDeviceFactory
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
        return plugin.Add(name, own => Make(own, (int)size, new QueueLimits((int)block) { MaxBytes = (int)largest }));
    }

    private PuppetBlockDevice Make(string name, int size, QueueLimits limits)
    {
        (DmaAddressSpace space, DmaPort port) = fabric.AddDevice($"puppet {name}");
        PuppetBlockDevice? device = null;
        device = new PuppetBlockDevice(name, space, port, size, limits)
        {
            Ended = () =>
            {
                plugin.Remove(device!);
                fabric.RemoveDevice(space);
            },
        };
        return device;
    }

    private static int At(DeviceExpression expression, string option) =>
        expression.Options.TryGetValue(option, out DeviceOption given) ? given.Position : expression.Position;
}
