using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Copying;

/// <summary>A set of devices, or a file on devices, as the source.</summary>
internal sealed class DeviceSource : ICopySource
{
    private readonly DmaBufIoHost _host;

    /// <summary>Checks the expression.</summary>
    /// <exception cref="Errors.DmaBufIoException">A file on devices is given with a size (<c>EINVAL</c>).</exception>
    internal DeviceSource(DmaBufIoHost host, DeviceExpression expression, int lba)
    {
        if (host.Plugins.FileWords.Contains(expression.Word, StringComparer.Ordinal) && expression.Options.TryGetValue("size", out DeviceOption size))
            throw expression.Broken(size.NamePosition, "a copy takes the size from the file", "Leave the option size out");
        _host = host;
        Expression = EndFiles.WithBlock(expression, lba);
    }

    /// <inheritdoc/>
    public DeviceExpression Expression { get; }

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
    public string Hash(long size, CancellationToken cancellationToken) => ContentHash.OfDevice(_host, Expression, size, cancellationToken);
}
