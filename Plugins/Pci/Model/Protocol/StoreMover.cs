using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Stores;

namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>
/// Moves the pieces of a transfer straight between the memory behind the DMA addresses and the store. Owned by the engine, reused.
/// </summary>
internal sealed class StoreMover(INamespaceStore store) : IDmaMover
{
    private bool _toStore;
    private long _position;

    /// <summary>What the store answered when it failed; <c>Ok</c> when a transfer failed for another reason.</summary>
    internal Errno StoreError { get; private set; }

    /// <summary>Prepares for the next run of addresses.</summary>
    /// <param name="toStore">A write to the namespace.</param>
    /// <param name="position">Byte of the namespace where the run begins.</param>
    internal void Begin(bool toStore, long position)
    {
        _toStore = toStore;
        _position = position;
        StoreError = Errno.Ok;
    }

    public Errno Move(Span<byte> piece, long position)
    {
        StoreError = _toStore ? store.Write(_position + position, piece) : store.Read(_position + position, piece);
        return StoreError;
    }
}
