using System.Runtime.InteropServices;
using DmaBufIo.Dma;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Rings;

namespace DmaBufIo.Cli.Benching;

/// <summary>The memory of a benchmark: an exporter's buffer, or plain memory of the application.</summary>
internal sealed class BenchBuffer : IDisposable
{
    /// <summary>The word for plain memory of the application: there is no exporter.</summary>
    internal const string HostWord = "host";

    private readonly MemoryRegion? _region;

    private BenchBuffer(MemoryRegion? region, ExportedBuffer? exported)
    {
        _region = region;
        Exported = exported;
    }

    /// <summary>The exporter's buffer, or null.</summary>
    internal ExportedBuffer? Exported { get; }

    /// <summary>
    /// Makes the memory and fills it with a pattern that says where it lies: what a write has written can be told from its contents.
    /// </summary>
    internal static BenchBuffer Create(DmaBufIoHost host, string via, long size)
    {
        BenchBuffer buffer = via == HostWord
            ? new BenchBuffer(MemoryRegion.Allocate("bench", size), null)
            : new BenchBuffer(null, host.CreateBuffer(via, "bench", size));
        long position = 0;
        IReadOnlyList<MemoryRange> ranges = buffer._region is { } region
            ? [new MemoryRange(region, 0, size)]
            : buffer.Exported!.Buffer.Describe().Ranges;
        foreach (MemoryRange range in ranges)
            position = Fill(range, position);
        return buffer;
    }

    /// <summary>What a lane registers.</summary>
    internal BufferRegistration Register(IoFile file, DmaDirection direction, BufferMapping mapping) =>
        new() { Buffer = Exported?.Buffer, Memory = _region, File = file, Direction = direction, Mapping = mapping };

    public void Dispose()
    {
        Exported?.Dispose();
        _region?.Dispose();
    }

    private static long Fill(in MemoryRange range, long position)
    {
        const int Piece = 1 << 20;
        for (long done = 0; done < range.Length; done += Piece)
        {
            Span<byte> bytes = range.Region.Span(range.Offset + done, (int)Math.Min(range.Length - done, Piece));
            foreach (ref ulong word in MemoryMarshal.Cast<byte, ulong>(bytes))
            {
                word = PatternAt(position);
                position += sizeof(ulong);
            }
        }

        return position;
    }

    private static ulong PatternAt(long position) => 0x9E3779B97F4A7C15UL * (ulong)(position + 1);
}
