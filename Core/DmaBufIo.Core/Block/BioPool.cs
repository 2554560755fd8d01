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
}

/// <summary>
/// The bios of one context. Used by the context's current owner only, so nothing here is shared; nothing allocates after construction.
/// </summary>
/// <remarks>
/// A driver ends a bio by <see cref="End"/>, which only notes it; <see cref="Dispatch"/> then tells the owners. So completions of stacked devices
/// do not recurse, and a driver's poll loop calls nobody.
/// A bio's place keeps its last map and region when it is given back: storing a reference costs more than a look whether it is there already.
/// <see cref="Forget"/> clears what is left behind.
/// </remarks>
public sealed class BioPool : IDisposable
{
    private readonly NativePool<Bio> _bios;
    private readonly Root[] _roots;
    private readonly int[] _free;
    private readonly int[] _ended;
    private readonly int _endedMask;
    private IBioOwner[] _owners = [];
    private int _freeCount;
    private int _endedHead;
    private int _endedCount;

    /// <summary>Allocates the pool.</summary>
    /// <param name="capacity">How many bios, 1 or more.</param>
    public BioPool(int capacity)
    {
        _bios = new NativePool<Bio>(capacity);
        _roots = new Root[capacity];
        _free = new int[capacity];
        _ended = new int[System.Numerics.BitOperations.RoundUpToPowerOf2((uint)capacity)];
        _endedMask = _ended.Length - 1;
        for (int i = 0; i < capacity; i++)
            _free[i] = capacity - 1 - i;
        _freeCount = capacity;
    }

    /// <summary>How many bios there are.</summary>
    public int Capacity => _free.Length;

    /// <summary>How many are free.</summary>
    public int Free => _freeCount;

    /// <summary>A bio.</summary>
    /// <param name="bio">The handle.</param>
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
    /// <returns>False when none is free.</returns>
    public bool TryAllocate(BioOperation operation, DmaMap map, long offset, long size, long sector, out BioHandle bio)
    {
        if (!TryTake(operation, BioBacking.Map, offset, size, sector, out bio))
            return false;
        ref Root root = ref _roots[bio.Index];
        if (!ReferenceEquals(root.Map, map))
            root.Map = map;
        return true;
    }

    /// <summary>Takes a bio backed by a range of a memory region, which stays allocated until the bio has ended.</summary>
    /// <param name="operation">Read or write.</param>
    /// <param name="memory">The memory.</param>
    /// <param name="sector">First sector on the device.</param>
    /// <param name="bio">The bio.</param>
    /// <returns>False when none is free.</returns>
    public bool TryAllocate(BioOperation operation, in MemoryRange memory, long sector, out BioHandle bio)
    {
        if (!TryTake(operation, BioBacking.Pages, memory.Offset, memory.Length, sector, out bio))
            return false;
        ref Root root = ref _roots[bio.Index];
        if (!ReferenceEquals(root.Region, memory.Region))
            root.Region = memory.Region;
        return true;
    }

    /// <summary>Takes a bio without backing: a flush.</summary>
    /// <param name="bio">The bio.</param>
    /// <returns>False when none is free.</returns>
    public bool TryAllocateFlush(out BioHandle bio) => TryTake(BioOperation.Flush, BioBacking.None, 0, 0, 0, out bio);

    /// <summary>Takes a copy: operation, range, backing and its kind (B2). Owner and cookie are the caller's to set.</summary>
    /// <param name="source">The bio to copy.</param>
    /// <param name="bio">The copy.</param>
    /// <returns>False when none is free.</returns>
    public bool TryClone(BioHandle source, out BioHandle bio)
    {
        Bio original = _bios[source.Index];
        if (!TryTake(original.Operation, original.Backing, original.Offset, original.Size, original.Sector, out bio))
            return false;
        _roots[bio.Index] = _roots[source.Index];
        return true;
    }

    /// <summary>The map of a map-backed bio.</summary>
    /// <param name="bio">The bio.</param>
    /// <returns>Null when it is backed by something else.</returns>
    public DmaMap? MapOf(BioHandle bio) => _bios[bio.Index].Backing == BioBacking.Map ? _roots[bio.Index].Map : null;

    /// <summary>The memory region of a page-backed bio.</summary>
    /// <param name="bio">The bio.</param>
    /// <returns>Null when it is backed by something else.</returns>
    public MemoryRegion? RegionOf(BioHandle bio) => _bios[bio.Index].Backing == BioBacking.Pages ? _roots[bio.Index].Region : null;

    /// <summary>Gives a bio back.</summary>
    /// <param name="bio">A bio that was taken and not given back.</param>
    public void Release(BioHandle bio) => _free[_freeCount++] = bio.Index;

    /// <summary>Clears what bios that were given back have left behind, so that nothing keeps a driver's maps alive. Looks at the whole pool; not on the request path.</summary>
    public void Forget()
    {
        foreach (int index in _free.AsSpan(0, _freeCount))
            _roots[index] = default;
    }

    /// <summary>A bio has ended: its owner is told by the next <see cref="Dispatch"/>. Called by drivers, once per bio they accepted.</summary>
    /// <param name="bio">The bio.</param>
    /// <param name="status">How.</param>
    public void End(BioHandle bio, Errno status)
    {
        _bios[bio.Index].Status = status;
        _ended[(_endedHead + _endedCount++) & _endedMask] = bio.Index;
    }

    /// <summary>Tells the owners of all bios that have ended, also of those that end meanwhile.</summary>
    /// <returns>How many.</returns>
    public int Dispatch()
    {
        int count = 0;
        while (_endedCount > 0)
        {
            var bio = new BioHandle(_ended[_endedHead]);
            _endedHead = (_endedHead + 1) & _endedMask;
            _endedCount--;
            count++;
            _owners[_bios[bio.Index].Owner].BioEnded(bio);
        }

        return count;
    }

    /// <summary>Frees the memory. Every bio was given back.</summary>
    public void Dispose() => _bios.Dispose();

    private bool TryTake(BioOperation operation, BioBacking backing, long offset, long size, long sector, out BioHandle bio)
    {
        if (_freeCount == 0)
        {
            bio = default;
            return false;
        }

        bio = new BioHandle(_free[--_freeCount]);
        ref Bio taken = ref _bios[bio.Index];
        taken.Sector = sector;
        taken.Offset = offset;
        taken.Size = size;
        taken.Status = Errno.Ok;
        taken.Operation = operation;
        taken.Backing = backing;
        return true;
    }

    private struct Root
    {
        public DmaMap? Map;
        public MemoryRegion? Region;
    }
}
