using DmaBufIo.Files;
using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A file that the host opens from an expression. The truth is read and written by requests of a second open file on memory that is not registered: other code of the driver. Where a fixture knows where the bytes
/// lie on the disks, it overrides <see cref="Give"/> and <see cref="Take"/>.
/// </summary>
public class FileTarget : ImporterTarget
{
    private readonly ContractWorld _world;
    private readonly IoFile _truth;
    private bool _disposed;

    /// <summary>Opens the file, for reading and writing first, so that it is there.</summary>
    /// <param name="world">The host.</param>
    /// <param name="expression">The file, as people write it.</param>
    /// <param name="flags">How the file under test is opened.</param>
    public FileTarget(ContractWorld world, string expression, OpenFlags flags)
    {
        _world = world;
        Device = world.Host.Open(expression);
        try
        {
            _truth = Device.OpenFile();
            File = Device.OpenFile(flags);
        }
        catch
        {
            _truth?.Put();
            Device.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override IoFile File { get; }

    /// <summary>The file with the devices under it: where a fixture finds its disks.</summary>
    protected OpenedDevice Device { get; }

    /// <inheritdoc/>
    public override void Give(long offset, ReadOnlySpan<byte> data) => Truth.Write(_world, _truth, offset, data.ToArray());

    /// <inheritdoc/>
    public override byte[] Take(long offset, int length) => Truth.Read(_world, _truth, offset, length);

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _truth.Put();
        if (!File.IsClosed)
            File.Put();
        Device.Dispose();
        GC.SuppressFinalize(this);
    }
}
