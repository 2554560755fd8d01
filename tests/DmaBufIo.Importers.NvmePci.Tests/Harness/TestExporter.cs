using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tests.Harness;

/// <summary>An exporter over memory regions of chosen lengths; with a cut, it presents its table in pieces of other lengths than it
/// mapped.</summary>
internal sealed class TestExporter : DmaBufExporter
{
    private readonly List<MemoryRegion> _regions = [];
    private readonly Func<IReadOnlyList<DeviceRange>, IReadOnlyList<DeviceRange>>? _cut;
    private readonly Dictionary<SgTable, IReadOnlyList<DeviceRange>> _mapped = [];

    private TestExporter(IEnumerable<long> lengths, Func<IReadOnlyList<DeviceRange>, IReadOnlyList<DeviceRange>>? cut)
    {
        foreach (long length in lengths)
            _regions.Add(MemoryRegion.Allocate($"fragment {_regions.Count}", length));
        _cut = cut;
    }

    internal int Maps { get; private set; }

    internal int Unmaps { get; private set; }

    internal static (DmaBuf Buffer, TestExporter Exporter) Create(
        IEnumerable<long> lengths, Func<IReadOnlyList<DeviceRange>, IReadOnlyList<DeviceRange>>? cut = null)
    {
        var exporter = new TestExporter(lengths, cut);
        return (new DmaBuf("buffer", exporter._regions.Sum(static r => r.Length), exporter), exporter);
    }

    /// <summary>The CPU's view, for ground truth: copies in or out.</summary>
    internal void Write(long offset, ReadOnlySpan<byte> bytes)
    {
        foreach (MemoryRegion region in _regions)
        {
            if (offset < region.Length && !bytes.IsEmpty)
            {
                int part = (int)Math.Min(bytes.Length, region.Length - offset);
                bytes[..part].CopyTo(region.Span(offset, part));
                bytes = bytes[part..];
                offset = 0;
            }
            else
            {
                offset -= bytes.IsEmpty ? 0 : region.Length;
            }
        }
    }

    internal byte[] Read(long offset, int length)
    {
        byte[] bytes = new byte[length];
        Span<byte> left = bytes;
        foreach (MemoryRegion region in _regions)
        {
            if (offset < region.Length && !left.IsEmpty)
            {
                int part = (int)Math.Min(left.Length, region.Length - offset);
                region.Span(offset, part).CopyTo(left);
                left = left[part..];
                offset = 0;
            }
            else
            {
                offset -= left.IsEmpty ? 0 : region.Length;
            }
        }

        return bytes;
    }

    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held)
    {
        Maps++;
        SgTable table = MapMemory(attachment, direction, [.. _regions.Select(static r => new MemoryRange(r, 0, r.Length))]);
        if (_cut is null)
            return table;
        var shown = new SgTable(attachment, direction, _cut(table.Ranges));
        _mapped.Add(shown, table.Ranges);
        return shown;
    }

    public override void Unmap(SgTable table, in HeldReservation held)
    {
        Unmaps++;
        foreach (DeviceRange range in _mapped.GetValueOrDefault(table, table.Ranges))
            range.Space.Unmap(range);
    }

    public override BufferBacking Describe() =>
        new(BackingKind.HostMemory, [.. _regions.Select(static r => new MemoryRange(r, 0, r.Length))], CanMove: true);

    public override void Release()
    {
        foreach (MemoryRegion region in _regions)
            region.Dispose();
    }
}

/// <summary>A file, as far as a token knows one.</summary>
internal sealed class TestOwner : ITokenOwner
{
    private int _references;

    public string Name => "file";

    internal int References => Volatile.Read(ref _references);

    public void Get() => Interlocked.Increment(ref _references);

    public void Put() => Interlocked.Decrement(ref _references);
}
