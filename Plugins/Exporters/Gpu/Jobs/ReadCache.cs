using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Memory;

namespace DmaBufIo.Exporters.Gpu.Jobs;

/// <summary>
/// The compute engine's view of memory: through a cache, as a GPU sees it. Devices that write the memory do not tell the cache: what it holds of a buffer is dropped by the acquire
/// step, and a job that had none would see old contents.
/// </summary>
/// <remarks>Used by the compute engine's thread alone. Lines have one place each, by their number; writes go through to memory and do not stay.</remarks>
internal sealed class ReadCache
{
    private const int Line = 4096;
    private const int Lines = 64;

    private readonly byte[][] _lines = [.. Enumerable.Range(0, Lines).Select(static _ => new byte[Line])];
    private readonly (long Buffer, long Line)[] _tags = new (long, long)[Lines]; // buffers are numbered from 1

    /// <summary>Forgets what it holds of a buffer.</summary>
    internal void Drop(GpuBuffer buffer)
    {
        for (int i = 0; i < Lines; i++)
        {
            if (_tags[i].Buffer == buffer.Id)
                _tags[i] = default;
        }
    }

    /// <summary>Reads, in pieces.</summary>
    internal void Read(in JobView view, long offset, long length, Action<ReadOnlySpan<byte>> use)
    {
        for (long done = 0; done < length;)
        {
            long line = (offset + done) / Line;
            int within = (int)((offset + done) % Line);
            int piece = (int)Math.Min(Line - within, length - done);
            use(Held(view, line).AsSpan(within, piece));
            done += piece;
        }
    }

    /// <summary>Writes, in pieces: each is filled by its position in the range.</summary>
    internal void Write(in JobView view, long offset, long length, SpanAction fill)
    {
        Drop(view.Buffer);
        long position = 0;
        long start = 0;
        foreach (MemoryRange range in view.Place.Memory)
        {
            long from = Math.Max(offset, start) - start;
            long to = Math.Min(offset + length, start + range.Length) - start;
            while (from < to)
            {
                int piece = (int)Math.Min(to - from, 1 << 20);
                fill(range.Region.Span(range.Offset + from, piece), position);
                from += piece;
                position += piece;
            }

            start += range.Length;
        }
    }

    private byte[] Held(in JobView view, long line)
    {
        int slot = (int)((view.Buffer.Id + line) % Lines);
        if (_tags[slot] != (view.Buffer.Id, line))
        {
            Load(view.Place, line * Line, _lines[slot]);
            _tags[slot] = (view.Buffer.Id, line);
        }

        return _lines[slot];
    }

    private static void Load(Place place, long offset, Span<byte> line)
    {
        int filled = 0;
        long start = 0;
        foreach (MemoryRange range in place.Memory)
        {
            long from = offset + filled - start;
            if (from >= 0 && from < range.Length && filled < line.Length)
            {
                int piece = (int)Math.Min(range.Length - from, line.Length - filled);
                range.Region.Span(range.Offset + from, piece).CopyTo(line[filled..]);
                filled += piece;
            }

            start += range.Length;
        }
    }
}

/// <summary>Fills a piece of a range.</summary>
/// <param name="piece">The memory.</param>
/// <param name="position">Bytes of the range before it.</param>
internal delegate void SpanAction(Span<byte> piece, long position);

/// <summary>A buffer as a job sees it: where its contents are while the job runs. A move that was asked for meanwhile comes after the job.</summary>
/// <param name="Buffer">The buffer.</param>
/// <param name="Place">Where it is.</param>
internal readonly record struct JobView(GpuBuffer Buffer, Place Place);
