using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Copying;

/// <summary>A set of devices, or a file on devices, as the source.</summary>
internal sealed class DeviceSource(DmaBufIoHost host, DeviceExpression expression, int lba) : ICopySource
{
    /// <inheritdoc/>
    public DeviceExpression Expression { get; } = EndFiles.WithBlock(expression, lba);

    /// <inheritdoc/>
    public long SizeOf(OpenedDevice device)
    {
        IoFile file = device.OpenFile(OpenFlags.Direct | OpenFlags.ReadOnly);
        try
        {
            return file.Size;
        }
        finally
        {
            file.Put();
        }
    }

    /// <inheritdoc/>
    public string Hash(long size, CancellationToken cancellationToken) => ContentHash.OfDevice(host, Expression, size, cancellationToken);
}
