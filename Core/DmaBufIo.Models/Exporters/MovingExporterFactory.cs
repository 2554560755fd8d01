using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Models.Exporters;

/// <summary>The exporter word <c>moving</c>.</summary>
public sealed class MovingExporterFactory : IExporterFactory, IMovableBuffers
{
    /// <inheritdoc/>
    public string Word => "moving";

    /// <inheritdoc/>
    public bool CanMove => true;

    /// <inheritdoc/>
    public DmaBuf Create(DeviceExpression expression, string name, long size)
    {
        expression.AllowOnly();
        expression.AllowNoText();
        return MovingExporter.Create(name, size).Buffer;
    }

    /// <inheritdoc/>
    public InvalidationReport Move(DmaBuf buffer, CancellationToken cancellationToken = default) => buffer.Exporter is MovingExporter exporter
        ? exporter.Move(cancellationToken)
        : throw new DmaBufIoException(Errno.EINVAL, "Models", buffer.Name, "the buffer is not one of the moving exporter's", "Move a buffer through the factory that created it");
}
