using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Plugins;
using DmaBufIo.Tokens;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.App;

/// <summary>A plugin of the application's own: a device that holds requests.</summary>
public sealed class PuppetPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info => new("puppet", new Version(1, 0), "Holds requests", PluginKinds.Importer) { Words = ["puppet"] };

    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IBlockDeviceFactory, PuppetFactory>();
}

internal sealed class PuppetFactory(IDmaFabric fabric) : IBlockDeviceFactory
{
    public string Word => "puppet";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members) => new PuppetDisk(expression.Text!, fabric);
}

internal sealed class PuppetDisk : BlockDevice, IDisposable
{
    private readonly IDmaFabric _fabric;
    private readonly DmaAddressSpace _space;
    private readonly PuppetBlockDevice _puppet;

    internal PuppetDisk(string name, IDmaFabric fabric)
    {
        _fabric = fabric;
        (_space, DmaPort port) = fabric.AddDevice(name);
        Last = _puppet = new PuppetBlockDevice(name, _space, port, 1 << 20, new QueueLimits(512));
    }

    internal static PuppetBlockDevice? Last { get; private set; }

    public override string Name => _puppet.Name;

    public override long Capacity => _puppet.Capacity;

    public override QueueLimits Limits => _puppet.Limits;

    public override bool IsRemoved => _puppet.IsRemoved;

    public override string Description => "a disk that holds requests";

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => _puppet.OpenQueue(context, bios, depth);

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => _puppet.CreateToken(buffer, direction);

    public void Dispose()
    {
        _puppet.Device.MarkRemoved();
        _puppet.Hold = false;
        _puppet.CancelHeld(Errno.ECANCELED);
        _puppet.Device.Remove();
        _fabric.RemoveDevice(_space);
    }
}
