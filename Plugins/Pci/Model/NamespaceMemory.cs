using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Stores;

namespace DmaBufIo.Pci.Model;

/// <summary>Storage in memory that outlives its controller: what a crash leaves is there for the next one. Used by one controller at a time.</summary>
/// <param name="length">Bytes.</param>
public sealed class NamespaceMemory(long length) : IDisposable
{
    private readonly MemoryNamespaceStore _store = new(length);

    /// <summary>Bytes.</summary>
    public long Length { get; } = length;

    /// <summary>Copies bytes out. No controller is at work on it.</summary>
    /// <param name="position">First byte.</param>
    /// <param name="destination">Where they go.</param>
    public void Read(long position, Span<byte> destination) => _store.Read(position, destination);

    /// <summary>Forgets the contents. No controller uses it any more.</summary>
    public void Dispose() => _store.Dispose();

    internal INamespaceStore Open() => new Borrowed(_store);

    private sealed class Borrowed(MemoryNamespaceStore store) : INamespaceStore
    {
        public long Length => store.Length;

        public Errno Read(long position, Span<byte> destination) => store.Read(position, destination);

        public Errno Write(long position, ReadOnlySpan<byte> source) => store.Write(position, source);

        public Errno Zero(long position, long length, bool extend) => store.Zero(position, length, extend);

        public Errno Flush() => store.Flush();

        public void Dispose()
        {
        }
    }
}
