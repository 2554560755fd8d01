using System.Globalization;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Udmabuf.Native;
using DmaBufIo.Native;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;

namespace DmaBufIo.Exporters.Udmabuf;

/// <summary>The exporter word <c>udmabuf[:limit=SIZE,kernel=on|off]</c>.</summary>
internal sealed class UdmabufExporterFactory(IConfiguration configuration) : IExporterFactory, IMemoryFileExporter
{
    private readonly UdmabufLimits _limits = Limits(configuration["limit"]);

    public string Word => "udmabuf";

    public bool CanMove => false;

    public DmaBuf Create(DeviceExpression expression, string name, long size)
    {
        expression.AllowOnly("limit", "kernel");
        expression.AllowNoText();
        UdmabufLimits limits = _limits with { Bytes = expression.Size("limit", _limits.Bytes) };

        // Looked at before memory is taken: a refusal should not cost gigabytes first.
        if (size > limits.Bytes)
            throw new DmaBufIoException(Errno.EINVAL, "udmabuf", name, $"the buffer is larger than the driver's limit of {limits.Bytes} bytes", "Ask for a smaller buffer, or raise the limit: udmabuf:limit=SIZE", range: $"0+{size}");
        using var memfd = MemfdHandle.Create(name, size);
        memfd.SealAgainstShrinking();
        return UdmabufExporter.Create(name, [new MemoryFileRange(memfd, 0, size)], limits, expression.Switch("kernel", UdmabufDevice.IsAvailable));
    }

    public DmaBuf Export(string name, IReadOnlyList<MemoryFileRange> ranges) => UdmabufExporter.Create(name, ranges, _limits, UdmabufDevice.IsAvailable);

    private static UdmabufLimits Limits(string? text)
    {
        if (text is null)
            return UdmabufLimits.Default;
        return DeviceExpression.TryParseSize(text, out long bytes)
            ? UdmabufLimits.Default with { Bytes = bytes }
            : throw new DmaBufIoException(Errno.EINVAL, "udmabuf", "option limit", string.Create(CultureInfo.InvariantCulture, $"'{text}' is not a size"), "Write digits with an optional suffix K, M, G or T");
    }
}
