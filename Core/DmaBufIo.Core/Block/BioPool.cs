using System.Runtime.CompilerServices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Block;

/// <summary>Whoever submitted a bio and is told when it has ended.</summary>
public interface IBioOwner
{
    /// <summary>A bio of this owner has ended. Called by <see cref="BioPool.Dispatch"/>, not from the driver; may not sleep. The owner frees the bio.</summary>
    /// <param name="bio">The bio; its status is set.</param>
    void BioEnded(BioHandle bio);

    /// <summary>Several have ended, in this order. For owners to whom a batch costs less than its bios one by one.</summary>
    /// <param name="bios">Bios of this owner.</param>
    void BiosEnded(ReadOnlySpan<BioHandle> bios)
    {
        foreach (BioHandle bio in bios)
            BioEnded(bio);
    }
}

/// <summary>
/// The bios of one context. Used by the context's current owner only, so nothing here is shared; nothing allocates after construction.
/// </summary>
/// <remarks>
/// A driver ends a bio by <see cref="End"/>, which only notes it; <see cref="Dispatch"/> then tells the owners. So completions of stacked devices
/// do not recurse, and a driver's poll loop calls nobody. A bio that is ended while it is not in flight was ended twice (N8): that is reported
/// (<see cref="DmaBufIoDiagnostics.DriverFaulted"/>) and costs nobody else's request, unless its place was taken again meanwhile.
/// A bio's place keeps its last backing when it is given back: storing a reference costs more than a look whether it is there already.
/// <see cref="Forget"/> clears what is left behind.
/// </remarks>
public sealed class BioPool : IDisposable
{
    // The status of a bio that was taken and has not ended.
    private const Errno InFlight = (Errno)(-1);

    private readonly NativePool<Bio> _memory;
    private readonly NativeView<Bio> _bios;
    private readonly Root[] _roots;
    private readonly BioHandle[] _free;
    private BioHandle[] _ended;
    private BioHandle[] _dispatched; // takes turns with _ended
    private IBioOwner[] _owners = [];
    private int _freeCount;
    private int _endedCount;
    private int _told;
    private bool _dispatching;

    /// <summary>Allocates the pool.</summary>
    /// <param name="capacity">How many bios, 1 or more.</param>
    public BioPool(int capacity)
    {
        _memory = new NativePool<Bio>(capacity);
        _bios = _memory.View;
        _roots = new Root[capacity];
        _free = new BioHandle[capacity];
        _ended = new BioHandle[capacity];
        _dispatched = new BioHandle[capacity];
        for (int i = 0; i < capacity; i++)
            _free[i] = new BioHandle(capacity - 1 - i);
        _freeCount = capacity;
    }

    /// <summary>How many bios there are.</summary>
    public int Capacity => _free.Length;

    /// <summary>How many are free.</summary>
    public int Free => _freeCount;

    /// <summary>A bio.</summary>
    /// <param name="bio">The handle.</param>
    [Diagnostics.HotPath]
    public ref Bio this[BioHandle bio] => ref _bios[bio.Index];

    /// <summary>Adds an owner.</summary>
    /// <param name="owner">Told when its bios have ended.</param>
    /// <returns>The number for <see cref="Bio.Owner"/>.</returns>
    public int AddOwner(IBioOwner owner)
    {
        _owners = [.. _owners, owner];
        return _owners.Length - 1;
    }

    /// <summary>Takes a bio backed by a range of a map. The caller holds the map's reference until the bio has ended.</summary>
    /// <param name="operation">Read or write.</param>
    /// <param name="map">The map.</param>
    /// <param name="offset">First byte in the buffer.</param>
    /// <param name="size">Bytes.</param>
    /// <param name="sector">First sector on the device.</param>
    /// <param name="bio">The bio.</param>
    /// <param name="owner">Who is told when it ends; may be set later (<see cref="Bio.Owner"/>).</param>
    /// <param name="cookie">The owner's value.</param>
    /// <returns>False when none is free.</returns>
    [Diagnostics.HotPath]
    public bool TryAllocate(BioOperation operation, DmaMap map, long offset, long size, long sector, out BioHandle bio, int owner = 0, long cookie = 0) =>
        TryTake(operation, BioBacking.Map, map, offset, size, sector, owner, cookie, out bio);

    /// <summary>Takes a bio backed by a range of a memory region, which stays allocated until the bio has ended.</summary>
    /// <param name="operation">Read or write.</param>
    /// <param name="memory">The memory.</param>
    /// <param name="sector">First sector on the device.</param>
    /// <param name="bio">The bio.</param>
    /// <param name="owner">Who is told when it ends; may be set later (<see cref="Bio.Owner"/>).</param>
    /// <param name="cookie">The owner's value.</param>
    /// <returns>False when none is free.</returns>
    [Diagnostics.HotPath]
    public bool TryAllocate(BioOperation operation, in MemoryRange memory, long sector, out BioHandle bio, int owner = 0, long cookie = 0) =>
        TryTake(operation, BioBacking.Pages, memory.Region, memory.Offset, memory.Length, sector, owner, cookie, out bio);

    /// <summary>Takes a bio without backing: a flush.</summary>
    /// <param name="bio">The bio.</param>
    /// <param name="owner">Who is told when it ends.</param>
    /// <param name="cookie">The owner's value.</param>
    /// <returns>False when none is free.</returns>
    [Diagnostics.HotPath]
    public bool TryAllocateFlush(out BioHandle bio, int owner = 0, long cookie = 0) =>
        TryTake(BioOperation.Flush, BioBacking.None, null, 0, 0, 0, owner, cookie, out bio);

    /// <summary>Takes a copy: operation, range, backing and its kind (B2). Owner and cookie are the caller's to set.</summary>
    /// <param name="source">The bio to copy.</param>
    /// <param name="bio">The copy.</param>
    /// <returns>False when none is free.</returns>
    [Diagnostics.HotPath]
    public bool TryClone(BioHandle source, out BioHandle bio)
    {
        ref readonly Bio original = ref _bios[source.Index];
        return TryTake(original.Operation, original.Backing, _roots[source.Index].Backing, original.Offset, original.Size, original.Sector, 0, 0, out bio);
    }

    /// <summary>
    /// Takes a part of a bio of another pool, re-targeted to a member of a set: its operation, its backing and its kind (B2), a range of it, another place. What is
    /// backed by the set's map is backed by the member's.
    /// </summary>
    /// <param name="pool">The other pool.</param>
    /// <param name="whole">The bio in it.</param>
    /// <param name="map">The member's map; null for a bio that is not backed by a map.</param>
    /// <param name="skip">Bytes of the bio before the part.</param>
    /// <param name="size">Bytes of the part.</param>
    /// <param name="sector">First sector on the member.</param>
    /// <param name="owner">Who is told when the part ends.</param>
    /// <param name="cookie">The owner's value.</param>
    /// <param name="part">The part.</param>
    /// <returns>False when none is free.</returns>
    [Diagnostics.HotPath]
    public bool TryTakePart(BioPool pool, BioHandle whole, DmaMap? map, long skip, long size, long sector, int owner, long cookie, out BioHandle part)
    {
        ref readonly Bio original = ref pool._bios[whole.Index];
        return TryTake(original.Operation, original.Backing, map ?? pool._roots[whole.Index].Backing, original.Offset + skip, size, sector, owner, cookie, out part);
    }

    /// <summary>What a bio is backed by: a <see cref="DmaMap"/>, a <see cref="MemoryRegion"/>, or null.</summary>
    /// <param name="bio">A bio that was taken and not given back.</param>
    [Diagnostics.HotPath]
    public object? BackingOf(BioHandle bio) => _roots[bio.Index].Backing;

    /// <summary>The map of a map-backed bio.</summary>
    /// <param name="bio">A bio that was taken and not given back.</param>
    /// <returns>Null when it is backed by something else.</returns>
    [Diagnostics.HotPath]
    public DmaMap? MapOf(BioHandle bio) => _roots[bio.Index].Backing as DmaMap;

    /// <summary>The memory region of a page-backed bio.</summary>
    /// <param name="bio">A bio that was taken and not given back.</param>
    /// <returns>Null when it is backed by something else.</returns>
    [Diagnostics.HotPath]
    public MemoryRegion? RegionOf(BioHandle bio) => _roots[bio.Index].Backing as MemoryRegion;

    /// <summary>Gives a bio back.</summary>
    /// <param name="bio">A bio that was taken and not given back.</param>
    [Diagnostics.HotPath]
    public void Release(BioHandle bio)
    {
        // A device has refused it, and may not end it either.
        ref Bio released = ref _bios[bio.Index];
        if (released.Status == InFlight)
            released.Status = Errno.EAGAIN;
        _free[_freeCount++] = bio;
    }

    /// <summary>Gives several back that have ended.</summary>
    /// <param name="bios">Bios that have ended and were not given back.</param>
    [Diagnostics.HotPath]
    public void Release(ReadOnlySpan<BioHandle> bios)
    {
        bios.CopyTo(_free.AsSpan(_freeCount));
        _freeCount += bios.Length;
    }

    /// <summary>Clears what bios that were given back have left behind, so that nothing keeps a driver's maps alive. Looks at the whole pool; not on the request path.</summary>
    public void Forget()
    {
        foreach (BioHandle bio in _free.AsSpan(0, _freeCount))
            _roots[bio.Index].Backing = null;
    }

    /// <summary>A bio has ended: its owner is told by the next <see cref="Dispatch"/>. Called by drivers, once per bio they accepted.</summary>
    /// <param name="bio">The bio.</param>
    /// <param name="status">How.</param>
    [Diagnostics.HotPath]
    public void End(BioHandle bio, Errno status)
    {
        ref Bio ending = ref _bios[bio.Index];
        if (ending.Status != InFlight)
        {
            ReportSecondEnd(bio, ending);
            return;
        }

        ending.Status = status;
        _ended[_endedCount++] = bio;
    }

    /// <summary>A bio that has ended is going to be submitted again as it is, by its owner: from now on it may end once more.</summary>
    /// <param name="bio">A bio that has ended and was not given back.</param>
    public void Rearm(BioHandle bio) => _bios[bio.Index].Status = InFlight;

    /// <summary>Tells the owners of all bios that have ended, also of those that end meanwhile.</summary>
    /// <returns>How many.</returns>
    [Diagnostics.HotPath]
    public int Dispatch()
    {
        // From within an owner it would turn the arrays that the outer call is going through; that one goes on until nothing is left.
        if (_endedCount == 0 || _dispatching)
            return 0;
        _dispatching = true;
        int total = 0;
        while (_endedCount > 0)
        {
            int count = _endedCount;
            BioHandle[] ended = _ended;
            _ended = _dispatched;
            _dispatched = ended;
            _endedCount = 0;
            _told = 0;
            total += count;
            while (_told < count)
                TellOwners(ended.AsSpan(0, count));
        }

        _dispatching = false;
        return total;
    }

    /// <summary>Frees the memory. Every bio was given back.</summary>
    public void Dispose() => _memory.Dispose();

    [Diagnostics.HotPath]
    private void TellOwners(ReadOnlySpan<BioHandle> ended)
    {
        try
        {
            while (_told < ended.Length)
            {
                int first = _told;
                int owner = _bios[ended[first].Index].Owner;
                int end = first + 1;
                while (end < ended.Length && _bios[ended[end].Index].Owner == owner)
                    end++;
                _told = end;
                _owners[owner].BiosEnded(ended[first..end]);
            }
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // The other owners are told all the same: what one of them has lost, the others have not.
            DmaBufIoDiagnostics.Report(new DriverFault("the end of bios", e));
        }
    }

    [Diagnostics.HotPath]
    private bool TryTake(BioOperation operation, BioBacking kind, object? backing, long offset, long size, long sector, int owner, long cookie, out BioHandle bio)
    {
        int left = _freeCount - 1;
        if (left < 0)
        {
            bio = default;
            return false;
        }

        _freeCount = left;
        bio = _free[left];
        ref Bio taken = ref _bios[bio.Index];
        taken.Sector = sector;
        taken.Offset = offset;
        taken.Size = size;
        taken.Cookie = cookie;
        taken.Owner = owner;
        taken.Status = InFlight;
        taken.Operation = operation;
        taken.Backing = kind;
        ref Root root = ref _roots[bio.Index];
        if (!ReferenceEquals(root.Backing, backing))
            root.Backing = backing;
        return true;
    }

    // Told instead of believed: the pool would give the place to two requests, and both would be lost.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void ReportSecondEnd(BioHandle bio, in Bio ended) => DmaBufIoDiagnostics.Report(new DriverFault(
        "the end of a bio",
        new DmaBufIoException(
            Errno.EINVAL,
            "Block",
            $"bio {bio.Index}, a {ended.Operation} that is not in flight",
            $"it was ended all the same; before, it had ended with {ended.Status}, or had been refused",
            "End each bio once: one that Submit has taken, and no other. Look at what ends bios in a reset, at a removal and after an error",
            $"{ended.Size} bytes from sector {ended.Sector}",
            "N8")));

    // A struct of its own: an array of objects would check at every access that it is no array of something else.
    private struct Root
    {
        public object? Backing;
    }
}
