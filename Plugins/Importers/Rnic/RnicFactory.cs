using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Plugins;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic;

/// <summary>The word <c>rnic:NAME[,thread=on|off]</c>: a card of that name on the plugin's wire.</summary>
internal sealed class RnicFactory(IDmaFabric fabric, RnicWire wire) : IRdmaDeviceFactory
{
    internal static IReadOnlyList<PluginOption> Options { get; } =
    [
        new("thread", "on or off", "on", "Work on a thread of its own, or inline when somebody polls"),
        new("slot", "a place in the PCI tree", "a root port of its own below hb0", "Where the card hangs: BRIDGE/PORT[/PORT...]"),
    ];

    private int _count;

    public string Word => "rnic";

    public RdmaDevice Create(DeviceExpression expression)
    {
        expression.AllowOnly([.. Options.Select(static o => o.Name)]);
        if (string.IsNullOrEmpty(expression.Text))
            throw expression.Broken(expression.Position, "'rnic' needs a name on the wire", "Write for example rnic:left");
        var options = new RnicOptions
        {
            Name = expression.Text,
            OwnThread = expression.Switch("thread", true),
            Location = expression.Location("slot") ?? DeviceLocation.Parse($"hb0/rnic{Interlocked.Increment(ref _count)}"),
        };
        return new RnicDevice(options, wire, fabric);
    }
}
