using DmaBufIo.Files;
using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A block device or a file on devices, opened by the host from an expression. The truth is read and written through a file of the operating system where the device keeps its data in one
/// as it is, and else through requests on unregistered memory: other code of the driver than that of registered buffers.
/// </summary>
public class BlockDeviceTarget : ImporterTarget
{
    private readonly ContractWorld _world;
    private readonly string? _backingFile;
    private IoFile? _truth;
    private bool _disposed;

    /// <summary>Opens the device.</summary>
    /// <param name="world">The host.</param>
    /// <param name="expression">The device, as people write it.</param>
    /// <param name="backingFile">A file that holds the device's data at the same offsets; null when there is none.</param>
    public BlockDeviceTarget(ContractWorld world, string expression, string? backingFile = null)
    {
        _world = world;
        Device = world.Host.Open(expression);
        _backingFile = backingFile;
        File = Device.OpenFile();
    }

    /// <inheritdoc/>
    public override IoFile File { get; }

    /// <summary>The device with what it stands on: where a fixture finds its disks. Closed by <see cref="Remove"/> and <see cref="Dispose"/>.</summary>
    protected OpenedDevice Device { get; }

    /// <inheritdoc/>
    public override void Give(long offset, ReadOnlySpan<byte> data)
    {
        if (_backingFile is null)
        {
            Truth.Write(_world, _truth ??= Device.OpenFile(), offset, data.ToArray());
            return;
        }

        using FileStream file = Open(FileAccess.Write);
        file.Seek(offset, SeekOrigin.Begin);
        file.Write(data);
    }

    /// <inheritdoc/>
    public override byte[] Take(long offset, int length)
    {
        if (_backingFile is null)
            return Truth.Read(_world, _truth ??= Device.OpenFile(), offset, length);
        byte[] found = new byte[length];
        using FileStream file = Open(FileAccess.Read);
        file.Seek(offset, SeekOrigin.Begin);
        file.ReadExactly(found);
        return found;
    }

    /// <inheritdoc/>
    public override void Reset() => Device.Root.ResetAll();

    /// <inheritdoc/>
    public override void Remove() => Device.Dispose();

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _truth?.Put();
        File.Put();
        Device.Dispose();
        GC.SuppressFinalize(this);
    }

    private FileStream Open(FileAccess access) => new(_backingFile!, FileMode.Open, access, FileShare.ReadWrite);
}
