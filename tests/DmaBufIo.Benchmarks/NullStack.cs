using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.NvmePci;
using DmaBufIo.Io;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.NullDevice;
using DmaBufIo.Tokens;

namespace DmaBufIo.Benchmarks;

/// <summary>The NVMe driver over a null controller on the same thread, a buffer, and a file. Software cost only: no data moves.</summary>
internal sealed class NullStack : IDisposable
{
    internal const int BufferSize = 16 << 20; // as in baseline.c
    private readonly ModelIommu _iommu = new(new ModelIommuOptions());
    private readonly NvmeBinding _binding;
    private readonly MovingExporter _exporter = MovingExporter.Create("benchmark", BufferSize);

    internal NullStack()
    {
        _binding = new NvmePciDriver().Probe(new NullController(new NullControllerOptions(), _iommu), "null0");
        File = new BlockDeviceFile(Device);
    }

    internal BlockDevice Device => _binding.BlockDevices[0];

    internal DmaBufs.DmaBuf Buffer => _exporter.Buffer;

    internal BlockDeviceFile File { get; }

    /// <summary>
    /// Registers the buffer with the file and takes one reference on its map. The context is not entered, before and after.
    /// </summary>
    internal (DmaBufToken Token, DmaMap Map) TakeMap(IoContext context) => TakeMap(File, Buffer, context);

    internal static (DmaBufToken Token, DmaMap Map) TakeMap(BlockDeviceFile file, DmaBufs.DmaBuf buffer, IoContext context)
    {
        DmaBufToken token = file.OpenToken(buffer, DmaDirection.Bidirectional);
        Errno status = token.GetMap(context, out DmaMap? map);
        if (status != Errno.Ok)
            throw new InvalidOperationException($"no map: {status}");
        context.Leave();
        return (token, map!);
    }

    internal static void GiveBack(DmaBufToken token, DmaMap map, IoContext context)
    {
        context.Enter();
        DmaBufToken.Drop(map, context);
        context.Leave();
        token.Release();
        if (token.WaitReleased() != Errno.Ok)
            throw new InvalidOperationException("the token was not released");
    }

    public void Dispose()
    {
        File.Put();
        _binding.Dispose();
        _exporter.Buffer.Put();
        _iommu.Dispose();
    }
}
