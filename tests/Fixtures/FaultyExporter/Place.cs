using DmaBufIo.Memory;

namespace DmaBufIo.Fixtures.FaultyExporter;

/// <summary>Where a buffer lies: pieces of memory, a device sees each as a range of its own.</summary>
internal sealed class Place
{
    internal const byte Poison = 0xDB;
    private const long Piece = 12 * 4096;

    internal Place(string name, long size)
    {
        // Three pieces of few pages, then the rest.
        var ranges = new List<MemoryRange>();
        for (long done = 0; done < size;)
        {
            long length = ranges.Count == 3 ? size - done : Math.Min(Piece, size - done);
            ranges.Add(new MemoryRange(MemoryRegion.Allocate(name, length), 0, length));
            done += length;
        }

        Ranges = [.. ranges];
    }

    internal MemoryRange[] Ranges { get; }

    /// <summary>Tables that are of this place and not given back. Guarded by the reservation lock.</summary>
    internal int Mappings { get; set; }

    internal void Each(long offset, long length, PieceAction act)
    {
        long done = 0;
        foreach (MemoryRange range in Ranges)
        {
            while (done < length && offset < range.Length)
            {
                int part = (int)Math.Min(Math.Min(length - done, range.Length - offset), 1 << 20);
                act(range.Region.Span(offset, part), done);
                done += part;
                offset += part;
            }

            offset -= range.Length;
        }
    }

    internal void CopyTo(long offset, Span<byte> destination)
    {
        foreach (MemoryRange range in Ranges)
        {
            if (destination.Length != 0 && offset < range.Length)
            {
                int part = (int)Math.Min(destination.Length, range.Length - offset);
                range.Region.Span(offset, part).CopyTo(destination);
                destination = destination[part..];
                offset += part;
            }

            offset -= range.Length;
        }
    }

    internal void CopyFrom(Place other, int pieces = int.MaxValue)
    {
        for (int i = 0; i < Math.Min(pieces, Ranges.Length); i++)
            Ranges[i].Region.CopyFrom(other.Ranges[i].Region);
    }

    internal void Fill(byte value)
    {
        foreach (MemoryRange range in Ranges)
            range.Region.Fill(value);
    }

    internal void MarkDead()
    {
        foreach (MemoryRange range in Ranges)
            range.Region.MarkDead();
    }

    internal void Free()
    {
        foreach (MemoryRange range in Ranges)
            range.Region.Dispose();
    }
}

/// <summary>Does something with a piece of memory.</summary>
/// <param name="piece">The memory.</param>
/// <param name="done">Bytes of the range before it.</param>
internal delegate void PieceAction(Span<byte> piece, long done);
