using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using DmaBufIo.Rdma;

namespace DmaBufIo.Hosting;

/// <summary>One device of an opened tree: a PCI function with its driver, a block device that stands on others, or a network card.</summary>
public sealed class DeviceNode
{
    private PciFunction? _function;
    private IResettable? _reset;
    private bool _closed;
    private Func<OpenFlags, IoFile>? _open;

    internal DeviceNode(
        DeviceExpression expression,
        string name,
        string driver,
        IReadOnlyList<string> plugins,
        IReadOnlyList<BlockDevice> blockDevices,
        IReadOnlyList<DeviceNode> members)
    {
        Expression = expression;
        Name = name;
        DriverName = driver;
        PluginNames = plugins;
        BlockDevices = blockDevices;
        Members = members;
    }

    /// <summary>The part of the expression that this device stands for.</summary>
    public DeviceExpression Expression { get; }

    /// <summary>The device's name: "nvme0" for a PCI function, the block device's name for others.</summary>
    public string Name { get; }

    /// <summary>The driver bound to the function; for a device on others the word that made it.</summary>
    public string DriverName { get; }

    /// <summary>The plugins that made it: that of the function, then that of its driver where it is another.</summary>
    public IReadOnlyList<string> PluginNames { get; }

    /// <summary>Its block devices; owned by the node. Empty once the device is closed.</summary>
    public IReadOnlyList<BlockDevice> BlockDevices { get; private set; }

    /// <summary>The network card that it is; owned by the node. Null for others, and once the device is closed.</summary>
    public RdmaDevice? RdmaDevice { get; private set; }

    /// <summary>The devices it stands on, in order; closed after it.</summary>
    public IReadOnlyList<DeviceNode> Members { get; }

    /// <summary>
    /// What the function and those of its members found wrong so far (<see cref="PciFunction.Problems"/>). Empty once the device is closed.
    /// </summary>
    public IReadOnlyList<string> Problems => [.. _function?.Problems ?? [], .. Members.SelectMany(static m => m.Problems)];

    /// <summary>Opens the device as a file, or the file that the expression names. May sleep.</summary>
    /// <param name="flags">How.</param>
    /// <returns>The file, with one reference that the caller drops by <see cref="IoFile.Put"/> before the device is closed.</returns>
    /// <exception cref="DmaBufIoException">It has no block device (<c>ENODEV</c>) or several (<c>EINVAL</c>), or what the plugin says.</exception>
    public IoFile OpenFile(OpenFlags flags)
    {
        if (_open is { } open)
            return open(flags);
        return BlockDevices.Count == 1
            ? new BlockDeviceFile(BlockDevices[0], flags)
            : throw new DmaBufIoException(
                BlockDevices.Count == 0 ? Errno.ENODEV : Errno.EINVAL,
                "Topology",
                Name,
                $"the device has {BlockDevices.Count} block devices, and a file stands on one",
                "Name an open device with one namespace");
    }

    /// <summary>
    /// True when the device has a reset of its own: one behind a PCI function, a network card, and a block device whose plugin implements <see cref="IResettable"/>. False for others, and once the device is closed.
    /// </summary>
    public bool CanReset => _reset is not null;

    /// <summary>Resets the device under load (T11, N8): see <see cref="IResettable.Reset"/>.</summary>
    /// <exception cref="DmaBufIoException">
    /// It has no reset of its own (<c>EOPNOTSUPP</c>, <see cref="CanReset"/>); it is closed (<c>ENODEV</c>); or what the driver says.
    /// </exception>
    public void Reset()
    {
        if (_reset is { } device)
            device.Reset();
        else if (_closed)
            throw new DmaBufIoException(Errno.ENODEV, "Topology", Name, "the device is closed", "Open it again", rule: "T11");
        else if (Members.Count != 0)
            throw new DmaBufIoException(
                Errno.EOPNOTSUPP,
                "Topology",
                Name,
                "a device that stands on others has no reset of its own",
                "Reset one of its members",
                rule: "T11");
        else
            throw new DmaBufIoException(
                Errno.EOPNOTSUPP,
                "Topology",
                Name,
                "the device cannot be reset",
                "Implement IResettable in the plugin's block device, beside BlockDevice",
                rule: "T11");
    }

    /// <summary>True when the plugin has made it or something that it stands on.</summary>
    internal bool IsMadeBy(string plugin) => PluginNames.Contains(plugin, StringComparer.Ordinal) || Members.Any(m => m.IsMadeBy(plugin));

    internal DeviceNode BoundTo(PciFunction function, IPciBinding binding)
    {
        _function = function;
        _reset = binding;
        return this;
    }

    internal DeviceNode Over(RdmaDevice card)
    {
        RdmaDevice = card;
        _reset = card;
        return this;
    }

    internal DeviceNode Being(BlockDevice device)
    {
        BlockDevices = [device];
        _reset = device as IResettable;
        return this;
    }

    internal DeviceNode OpenedBy(Func<OpenFlags, IoFile> open)
    {
        _open = open;
        return this;
    }

    /// <summary>Lets go of every object of a plugin, so that one which an application keeps does not keep the plugin loaded.</summary>
    internal void Forget()
    {
        BlockDevices = [];
        RdmaDevice = null;
        _function = null;
        _reset = null;
        _open = null;
        _closed = true;
        foreach (DeviceNode member in Members)
            member.Forget();
    }
}
