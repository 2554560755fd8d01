using DmaBufIo.DmaBufs;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <summary>A buffer under test, and what its exporter can do with it. As it stands it is for buffers that the host has made from an expression; override what a fixture has to do otherwise.</summary>
/// <param name="exported">The buffer; disposed with this object.</param>
public class ExporterTarget(ExportedBuffer exported) : IDisposable
{
    private bool _disposed;

    /// <summary>The buffer as the host has made it.</summary>
    public ExportedBuffer Exported { get; } = exported;

    /// <summary>The buffer, with the one reference that this object drops.</summary>
    public virtual DmaBuf Buffer => Exported.Buffer;

    /// <summary>Moves the buffer to other memory and returns when that has begun; with <see cref="ExporterCapabilities.Moves"/>. May sleep.</summary>
    /// <param name="cancellationToken">Interrupts the wait for the reservation lock.</param>
    /// <returns>What the invalidation hit.</returns>
    public virtual InvalidationReport Move(CancellationToken cancellationToken = default) => Exported.Move(cancellationToken);

    /// <summary>Works on the buffer where it lies; null when the exporter cannot.</summary>
    public virtual IComputeBuffers? Compute => Exported.Compute;

    /// <summary>Presses the memory that the buffer lies in; null when the exporter cannot.</summary>
    public virtual IPressableBuffers? Presser => Exported.Presser;

    /// <summary>Drops the reference.</summary>
    public virtual void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        Exported.Dispose();
        GC.SuppressFinalize(this);
    }
}
