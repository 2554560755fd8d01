using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Importers.Rnic.Tests.Harness;

/// <summary>An exporter that refuses to map for as long as it is told to, and hands out its memory in pages.</summary>
internal sealed class StubbornExporter : DmaBufExporter
{
    private readonly MemoryRegion _memory;

    internal StubbornExporter(string name, long size)
    {
        _memory = MemoryRegion.Allocate(name, size);
        Buffer = new DmaBuf(name, size, this);
    }

    internal DmaBuf Buffer { get; }

    internal bool IsStubborn { get; set; } = true;

    internal MemoryRegion Memory => _memory;

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held) => IsStubborn
        ? throw new DmaBufIoException(Errno.ENOMEM, "test", Buffer.Name, "the exporter is stubborn", "Ask later")
        : MapMemory(attachment, direction, [.. Pages().Reverse()]);

    public override void Unmap(SgTable table, in HeldReservation held) => UnmapMemory(table);

    public override BufferBacking Describe() => new(BackingKind.HostMemory, [.. Pages()], CanMove: false);

    public override void Release() => _memory.Dispose();

    private IEnumerable<MemoryRange> Pages() => Enumerable.Range(0, (int)(_memory.Length / 4096)).Select(i => new MemoryRange(_memory, i * 4096L, 4096));
}
