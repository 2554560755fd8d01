using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model.Stores;

/// <summary>A namespace in memory: chunks that exist once they have been written.</summary>
internal sealed class MemoryNamespaceStore : INamespaceStore
{
    private const int ChunkShift = 20;
    private const int ChunkSize = 1 << ChunkShift;
    private readonly byte[]?[] _chunks;

    internal MemoryNamespaceStore(long length)
    {
        Length = length;
        _chunks = new byte[]?[checked((int)((length + ChunkSize - 1) >> ChunkShift))];
    }

    public long Length { get; }

    public Errno Read(long position, Span<byte> destination)
    {
        while (!destination.IsEmpty)
        {
            int offset = (int)(position & (ChunkSize - 1));
            int part = Math.Min(destination.Length, ChunkSize - offset);
            if (_chunks[position >> ChunkShift] is { } chunk)
                chunk.AsSpan(offset, part).CopyTo(destination);
            else
                destination[..part].Clear();
            destination = destination[part..];
            position += part;
        }

        return Errno.Ok;
    }

    public Errno Write(long position, ReadOnlySpan<byte> source)
    {
        while (!source.IsEmpty)
        {
            int offset = (int)(position & (ChunkSize - 1));
            int part = Math.Min(source.Length, ChunkSize - offset);
            byte[] chunk = _chunks[position >> ChunkShift] ??= new byte[ChunkSize];
            source[..part].CopyTo(chunk.AsSpan(offset));
            source = source[part..];
            position += part;
        }

        return Errno.Ok;
    }

    public Errno Zero(long position, long length, bool extend)
    {
        while (length > 0)
        {
            int offset = (int)(position & (ChunkSize - 1));
            int part = (int)Math.Min(length, ChunkSize - offset);
            if (part == ChunkSize)
                _chunks[position >> ChunkShift] = null;
            else
                _chunks[position >> ChunkShift]?.AsSpan(offset, part).Clear();
            length -= part;
            position += part;
        }

        return Errno.Ok;
    }

    public Errno Flush() => Errno.Ok;

    public void Dispose() => Array.Clear(_chunks);
}
