using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Puppets;

/// <summary>
/// An exporter on strings: its buffer lies in pieces as a test asks for, moves when told to, and can fail, wait or look around in every step. Old places are poisoned and dead, so an importer
/// that still touches one is seen by the modelled IOMMU.
/// </summary>
/// <remarks>Steps are set before they are needed. The place and the counts change with the reservation lock held; counts may be read from any thread.</remarks>
public sealed class PuppetExporter : DmaBufExporter
{
    private readonly Dictionary<SgTable, Place> _tables = new(ReferenceEqualityComparer.Instance);
    private readonly long[] _pieces;
    private Place _current;
    private DmaBuf? _buffer;
    private int _pins;
    private int _liveTables;
    private int _mapCalls;
    private int _unmapCalls;
    private int _oldPlaces;
    private int _releases;

    private PuppetExporter(string name, long[] pieces)
    {
        _pieces = pieces;
        _current = new Place(name, pieces);
    }

    /// <summary>The byte with which an old place is filled.</summary>
    public static byte Poison => 0xDB;

    /// <summary>The buffer.</summary>
    public DmaBuf Buffer => _buffer!;

    /// <summary>Tables handed out and not given back.</summary>
    public int LiveTables => Volatile.Read(ref _liveTables);

    /// <summary>Calls of <see cref="Map"/> so far, also those that failed.</summary>
    public int MapCalls => Volatile.Read(ref _mapCalls);

    /// <summary>Calls of <see cref="Unmap"/> so far.</summary>
    public int UnmapCalls => Volatile.Read(ref _unmapCalls);

    /// <summary>Places that were left and are still mapped by someone.</summary>
    public int OldPlaces => Volatile.Read(ref _oldPlaces);

    /// <summary>Static attachments that keep the buffer where it is.</summary>
    public int Pins => Volatile.Read(ref _pins);

    /// <summary>Times that the memory was freed: 1 in the end.</summary>
    public int Releases => Volatile.Read(ref _releases);

    /// <summary>Called in <see cref="Map"/> with the reservation lock held, before anything is mapped; what it throws, the mapping fails with.</summary>
    public Action<DmaAttachment, DmaDirection>? InMap { get; set; }

    /// <summary>Called in <see cref="Unmap"/> with the reservation lock held, before anything is unmapped.</summary>
    public Action<SgTable>? InUnmap { get; set; }

    /// <summary>Called by a move with the lock held, before importers are told.</summary>
    public Action? BeforeInvalidation { get; set; }

    /// <summary>Called by a move with the lock held, when importers have been told and all fences have signalled: from now on no request may use the old addresses (F7).</summary>
    public Action? AfterInvalidation { get; set; }

    /// <summary>
    /// Takes each piece of memory that is not needed any more, and disposes it when it likes; null: it is disposed at once. With a place that is left it is called with the lock held.
    /// </summary>
    public Action<MemoryRegion>? InFree { get; set; }

    /// <summary>Makes a buffer.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="pieces">The lengths of the pieces of memory it lies in, in bytes, each a positive multiple of the page size. A device sees each as a segment of its own.</param>
    /// <returns>The exporter; its buffer has one reference.</returns>
    public static PuppetExporter Create(string name, params long[] pieces)
    {
        var exporter = new PuppetExporter(name, [.. pieces]);
        exporter._buffer = new DmaBuf(name, pieces.Sum(), exporter);
        return exporter;
    }

    /// <summary>Moves the buffer to other memory; may sleep. Not while holding a map reference or a reservation lock (T15).</summary>
    /// <param name="cancellationToken">Interrupts the wait for the lock.</param>
    /// <returns>What the invalidation hit.</returns>
    /// <exception cref="DmaBufIoException">The buffer is pinned by a static attachment (<c>EBUSY</c>).</exception>
    public InvalidationReport Move(CancellationToken cancellationToken = default)
    {
        using ReservationGuard guard = Buffer.Reservation.Lock(null, cancellationToken);
        return Move(guard.Held);
    }

    /// <summary>Moves the buffer with its lock held.</summary>
    /// <param name="held">Proof of that.</param>
    /// <returns>What the invalidation hit.</returns>
    public InvalidationReport Move(in HeldReservation held)
    {
        held.AssertFor(Buffer.Reservation);
        if (_pins != 0)
            throw new DmaBufIoException(Errno.EBUSY, "Models", Buffer.Name, "the buffer is pinned by a static attachment", "Detach the device that pins it, or attach it dynamically");
        var next = new Place(Buffer.Name, _pieces);
        BeforeInvalidation?.Invoke();
        InvalidationReport report = Buffer.InvalidateMappings(held);
        Buffer.Reservation.Wait(FenceUsage.Bookkeep); // the fenced design leaves a fence per map (F7)
        AfterInvalidation?.Invoke();
        Place old = _current;
        next.CopyFrom(old);
        _current = next;
        old.Die(Poison);
        if (old.Mappings == 0)
            old.Free(InFree);
        else
            Interlocked.Increment(ref _oldPlaces);
        return report;
    }

    /// <summary>Reads the contents where they lie now. Not while they move.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="destination">Where they go.</param>
    public void Read(long offset, Span<byte> destination)
    {
        while (destination.Length > 0)
        {
            Span<byte> piece = _current.At(offset, destination.Length);
            piece.CopyTo(destination);
            destination = destination[piece.Length..];
            offset += piece.Length;
        }
    }

    /// <summary>Writes the contents where they lie now. Not while they move.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="source">The bytes.</param>
    public void Write(long offset, ReadOnlySpan<byte> source)
    {
        while (source.Length > 0)
        {
            Span<byte> piece = _current.At(offset, source.Length);
            source[..piece.Length].CopyTo(piece);
            source = source[piece.Length..];
            offset += piece.Length;
        }
    }

    /// <inheritdoc/>
    public override SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held)
    {
        Interlocked.Increment(ref _mapCalls);
        InMap?.Invoke(attachment, direction);
        SgTable table = MapMemory(attachment, direction, _current.Ranges);
        _tables.Add(table, _current);
        _current.Mappings++;
        Interlocked.Increment(ref _liveTables);
        return table;
    }

    /// <inheritdoc/>
    public override void Unmap(SgTable table, in HeldReservation held)
    {
        Interlocked.Increment(ref _unmapCalls);
        InUnmap?.Invoke(table);
        UnmapMemory(table);
        _tables.Remove(table, out Place? place);
        Interlocked.Decrement(ref _liveTables);
        if (--place!.Mappings == 0 && !ReferenceEquals(place, _current))
        {
            place.Free(InFree);
            Interlocked.Decrement(ref _oldPlaces);
        }
    }

    /// <inheritdoc/>
    public override void Pin(in HeldReservation held) => Interlocked.Increment(ref _pins);

    /// <inheritdoc/>
    public override void Unpin(in HeldReservation held) => Interlocked.Decrement(ref _pins);

    /// <inheritdoc/>
    public override BufferBacking Describe() => new(BackingKind.HostMemory, _current.Ranges, CanMove: true);

    /// <inheritdoc/>
    public override void Release()
    {
        Interlocked.Increment(ref _releases);
        _current.Free(InFree);
    }

    private sealed class Place(string name, long[] pieces)
    {
        internal MemoryRange[] Ranges { get; } = [.. pieces.Select(length => new MemoryRange(MemoryRegion.Allocate(name, length), 0, length))];

        internal int Mappings { get; set; }

        /// <summary>The bytes at an offset, up to the end of their piece.</summary>
        internal Span<byte> At(long offset, int length)
        {
            foreach (MemoryRange range in Ranges)
            {
                if (offset < range.Length)
                    return range.Region.Span(offset, (int)Math.Min(length, range.Length - offset));
                offset -= range.Length;
            }

            throw new ArgumentOutOfRangeException(nameof(offset), offset, "The range leaves the buffer.");
        }

        internal void CopyFrom(Place other)
        {
            for (int i = 0; i < Ranges.Length; i++)
                Ranges[i].Region.CopyFrom(other.Ranges[i].Region);
        }

        internal void Die(byte poison)
        {
            foreach (MemoryRange range in Ranges)
            {
                range.Region.Fill(poison);
                range.Region.MarkDead();
            }
        }

        internal void Free(Action<MemoryRegion>? inFree)
        {
            foreach (MemoryRange range in Ranges)
            {
                if (inFree is null)
                    range.Region.Dispose();
                else
                    inFree(range.Region);
            }
        }
    }
}
