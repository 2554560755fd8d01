using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Regions;

namespace DmaBufIo.Importers.Rnic.Hardware;

/// <summary>
/// A card's memory regions by key. A key is a place in the table and, in its last byte, the generation of the place: a key that was given back is found out, also when the place is in use again.
/// </summary>
/// <remarks>
/// Places are even for local keys; the remote key of a region is the odd number after it, so that neither is taken for the other. Looked up without a lock: the table is replaced as a whole when it grows, a place is
/// one reference. Freed places are used again in the order of freeing, so that a generation comes again as late as possible.
/// </remarks>
internal sealed class KeyTable
{
    private const int MaxPlaces = 1 << 23; // 24 bits of a key, local and remote

    private readonly Lock _lock = new();
    private readonly Queue<int> _free = new();
    private volatile RnicRegion?[] _regions = new RnicRegion?[16];
    private byte[] _generations = new byte[16];
    private int _used = 1; // place 0 stays empty: the key 0 is none

    /// <summary>Places in use.</summary>
    internal int Count
    {
        get
        {
            lock (_lock)
                return _used - 1 - _free.Count;
        }
    }

    /// <summary>Gives a region its keys.</summary>
    /// <exception cref="DmaBufIoException">The table is full (<c>ENOMEM</c>).</exception>
    internal void Add(RnicRegion region)
    {
        lock (_lock)
        {
            // A place that was just freed is left alone for a while: as long as there are fewer than this.
            if (_free.Count < 64 || !_free.TryDequeue(out int place))
            {
                place = _used;
                if (place == MaxPlaces)
                    throw RnicError.Make(Errno.ENOMEM, region.Buffer.Name, "the card has no keys left", "Deregister regions that are not used");
                _used++;
                if (place == _regions.Length)
                {
                    RnicRegion?[] larger = _regions;
                    Array.Resize(ref larger, 2 * place);
                    Array.Resize(ref _generations, 2 * place);
                    _regions = larger;
                }
            }

            uint key = ((uint)(2 * place) << 8) | _generations[place];
            region.SetKeys(key, key + (1 << 8));
            Volatile.Write(ref _regions[place], region);
        }
    }

    /// <summary>Ends a region's keys. From the return on no lookup that begins finds it.</summary>
    internal void Remove(RnicRegion region)
    {
        lock (_lock)
        {
            int place = PlaceOf(region.LocalKey);
            Volatile.Write(ref _regions[place], null);
            _generations[place]++;
            _free.Enqueue(place);
        }
    }

    /// <summary>The region of a local key; null when there is none.</summary>
    internal RnicRegion? FindLocal(uint key) => Find(key) is { } region && region.LocalKey == key ? region : null;

    /// <summary>The region of a remote key; null when there is none.</summary>
    internal RnicRegion? FindRemote(uint key) => Find(key) is { } region && region.RemoteKey == key ? region : null;

    private static int PlaceOf(uint key) => (int)(key >> 9);

    private RnicRegion? Find(uint key)
    {
        RnicRegion?[] regions = _regions;
        int place = PlaceOf(key);
        return place < regions.Length ? Volatile.Read(ref regions[place]) : null;
    }
}
