using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace MovingRam;

/// <summary>The plugin: buffers in memory that move on demand, by the word <c>movingram</c>.</summary>
public sealed class RamPlugin : IDmaBufIoPlugin
{
    public PluginInfo Info { get; } = new("movingram", new Version(1, 0), "Buffers in memory that move on demand", PluginKinds.Exporter) { Words = ["movingram"] };

    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IExporterFactory, RamFactory>();
}

/// <summary>Makes the buffers, and moves them when the host asks.</summary>
internal sealed class RamFactory : IExporterFactory, IMovableBuffers
{
    public string Word => "movingram";

    public bool CanMove => true;

    public DmaBuf Create(DeviceExpression expression, string name, long size)
    {
        expression.AllowOnly();
        expression.AllowNoText();
        return new RamBuffer(name, size).Buffer;
    }

    public InvalidationReport Move(DmaBuf buffer, CancellationToken cancellationToken = default) => buffer.Exporter is RamBuffer mine
        ? mine.Move(cancellationToken)
        : throw new DmaBufIoException(Errno.EINVAL, "MovingRam", buffer.Name, "the buffer belongs to another exporter", "Move it through the factory that made it");
}
