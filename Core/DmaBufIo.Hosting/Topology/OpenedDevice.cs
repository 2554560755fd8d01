using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;
using DmaBufIo.Rdma;
using DmaBufIo.Sync;

namespace DmaBufIo.Hosting;

/// <summary>
/// A device that was opened from an expression, with everything it stands on. Disposing closes it all, in the reverse order of opening.
/// </summary>
public sealed class OpenedDevice : IDisposable
{
    private readonly Action<OpenedDevice> _closed;
    private readonly OwnedStack _owned;
    private bool _disposed;

    internal OpenedDevice(DeviceNode root, OwnedStack owned, Action<OpenedDevice> closed)
    {
        Root = root;
        _owned = owned;
        _closed = closed;
    }

    /// <summary>It is closed as a whole, and the host has taken it off its list: also for those who come while somebody else is closing it.</summary>
    internal Completion Ended { get; } = new();

    /// <summary>The device and, below it, its members.</summary>
    public DeviceNode Root { get; }

    /// <summary>The expression it was opened from.</summary>
    public DeviceExpression Expression => Root.Expression;

    /// <summary>The device's name, for example "nvme0".</summary>
    public string Name => Root.Name;

    /// <summary>Its block devices; owned by this object. Empty once it is closed.</summary>
    public IReadOnlyList<BlockDevice> BlockDevices => Root.BlockDevices;

    /// <summary>Its only block device.</summary>
    /// <exception cref="DmaBufIoException">It has none (<c>ENODEV</c>; also when closed) or several (<c>EINVAL</c>).</exception>
    public BlockDevice BlockDevice => BlockDevices.Count == 1 ? BlockDevices[0]
        : BlockDevices.Count == 0
            ? throw new DmaBufIoException(
                Errno.ENODEV,
                "Topology",
                Name,
                "the device has no block device",
                "Name an open device with a namespace")
            : throw new DmaBufIoException(
                Errno.EINVAL,
                "Topology",
                Name,
                $"the device has {BlockDevices.Count} block devices",
                "Choose one of them");

    /// <summary>The network card that it is; owned by this object.</summary>
    /// <exception cref="DmaBufIoException">It is none, or closed (<c>ENODEV</c>).</exception>
    public RdmaDevice RdmaDevice => Root.RdmaDevice ?? throw new DmaBufIoException(
        Errno.ENODEV,
        "Topology",
        Name,
        "the device is no RDMA device, or closed",
        "Name an open network card, for example rnic:left");

    /// <summary>Opens it as a file; see <see cref="DeviceNode.OpenFile"/>.</summary>
    /// <param name="flags">How.</param>
    /// <returns>The file, with one reference that the caller drops before the device is closed.</returns>
    public Files.IoFile OpenFile(Files.OpenFlags flags = Files.OpenFlags.Direct) => Root.OpenFile(flags);

    /// <summary>
    /// Closes the device: in-flight requests end with an error and tokens answer <c>ENODEV</c> (T11), then its members close. Idempotent.
    /// </summary>
    /// <exception cref="AggregateException">
    /// Several parts failed to close; a single failure is thrown as it is. Everything was let go of either way.
    /// </exception>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, true))
            return;
        try
        {
            _owned.Dispose();
        }
        finally
        {
            Root.Forget();
            try
            {
                _closed(this);
            }
            finally
            {
                Ended.Complete();
            }
        }
    }
}
