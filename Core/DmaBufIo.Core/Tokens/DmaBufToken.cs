using DmaBufIo.Devices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <summary>
/// A buffer registered with a file (the kernel's io_dmabuf_token): made once per (file, buffer, direction), lives as long as the registration, makes
/// maps on demand. At most one map is live; there may be none (T4).
/// </summary>
/// <remarks>
/// Protocol. <c>_live</c> is the published map: read without a lock by requests, written under <c>_lock</c>, a short lock that is never held across a wait.
/// A map is published by the one creator (creators' mutex) with the reservation lock held, and unpublished by whoever kills it: an invalidation
/// (reservation lock held), a reset or the release (not held). Killed maps stay in <c>_killed</c> until they are unmapped, so that an invalidation
/// waits for all of them, also for those that someone else has killed (D4).
/// Order of locks: creators, reservation, token. The last request of a killed map queues its unmapping; the worker takes the reservation lock.
/// This file holds the hot path and the state; creation of maps, killing and release are in files of their own.
/// </remarks>
public sealed partial class DmaBufToken : ISnapshotSource, IDeviceMaps
{
    private static long s_lastId;
    private readonly TokenDriver _driver;
    private readonly ITokenOwner _owner;
    private readonly TokenOptions _options;
    private readonly SleepingMutex _creators;
    private readonly Lock _lock = new();
    private readonly List<DmaMap> _killed = [];
    private readonly WaitQueue _unmapped = new();
    private readonly Completion _released = new();
    private readonly HashSet<DmaDevice> _holding = []; // devices that tell of their reset and removal
    private readonly long _number = SchedulePoint.NewObject();
    private DmaMap? _live;
    private State _state;
    private bool _making;
    private long _makings;

    private DmaBufToken(ITokenOwner owner, DmaBuf buffer, DmaDirection direction, TokenDriver driver, TokenOptions options)
    {
        _owner = owner;
        _driver = driver;
        _options = options;
        Buffer = buffer;
        Direction = direction;
        Name = $"token {Interlocked.Increment(ref s_lastId)} ({buffer.Name} on {owner.Name})";
        _creators = new SleepingMutex($"creators of maps of {Name}");
    }

    private enum State
    {
        Live,
        Releasing,
        Released,
    }

    /// <summary>A name for messages: number, buffer and file.</summary>
    public string Name { get; }

    /// <summary>The buffer.</summary>
    public DmaBuf Buffer { get; }

    /// <summary>The transfers the token is for; others are refused (T1).</summary>
    public DmaDirection Direction { get; }

    /// <summary>The file it is bound to (T13).</summary>
    public ITokenOwner Owner => _owner;

    /// <summary>Maps made so far.</summary>
    public long MapsMade { get; private set; }

    /// <summary>Why the last attempt to make a map failed, or null.</summary>
    public DmaBufIoException? LastMapError { get; private set; }

    /// <summary>True once the release has begun.</summary>
    public bool IsReleasing => _state != State.Live;

    /// <summary>True once nothing of it is left.</summary>
    public bool IsReleased => _released.IsDone;

    /// <summary>The generation of the live map, or null when there is none.</summary>
    public long? LiveGeneration => Volatile.Read(ref _live)?.Generation;

    /// <summary>Maps that exist: live, and killed but not unmapped yet.</summary>
    public int Maps
    {
        get
        {
            lock (_lock)
                return _killed.Count + (_live is null ? 0 : 1);
        }
    }

    /// <summary>Creates a token (T1, T2). Called by files.</summary>
    /// <param name="owner">The file; the token takes a reference.</param>
    /// <param name="buffer">The buffer; the token takes a reference.</param>
    /// <param name="direction">The transfers it is for.</param>
    /// <param name="options">How it behaves.</param>
    /// <param name="create">The file's operation: makes the driver's part, or answers null when it has none.</param>
    /// <returns>The token; end it by <see cref="Release"/>.</returns>
    /// <exception cref="DmaBufIoException">The file has no such operation (<c>EOPNOTSUPP</c>), a device is gone (<c>ENODEV</c>), or the driver refuses. No reference is left behind.</exception>
    public static DmaBufToken Create(
        ITokenOwner owner,
        DmaBuf buffer,
        DmaDirection direction,
        TokenOptions options,
        Func<DmaBuf, DmaDirection, TokenDriver?> create)
    {
        if (direction is not (DmaDirection.ToDevice or DmaDirection.FromDevice or DmaDirection.Bidirectional))
            throw new DmaBufIoException(Errno.EINVAL, "Tokens", owner.Name, $"'{direction}' is no direction of a registration", "Register to device, from device, or both", rule: "T1");
        buffer.Get();
        TokenDriver? driver = null;
        bool owned = false;
        try
        {
            owner.Get();
            owned = true;
            driver = create(buffer, direction) ?? throw new DmaBufIoException(
                Errno.EOPNOTSUPP, "Tokens", owner.Name, "the file has no token operation, so it cannot take a registered buffer", "Use a file whose driver implements CreateToken, opened for direct I/O", rule: "T1");
            driver.Setup();
            var token = new DmaBufToken(owner, buffer, direction, driver, options);
            driver.Bind(token);
            token.HoldDevices();
            SnapshotRegistry.Add(token);
            Counters.Tokens.Add();
            return token;
        }
        catch
        {
            // What the driver had set up is undone; if that throws too, the first failure is the one to tell, and the references go all the same.
            driver?.ReleaseAll(Guarded);
            if (owned)
                owner.Put();
            buffer.Put();
            throw;
        }
    }

    /// <summary>Takes a reference on the live map. Hot path (T6): no lock, no shared cache line, no allocation.</summary>
    /// <param name="context">The caller's context, entered.</param>
    /// <param name="count">How many references: one for each request of a batch (T16).</param>
    /// <returns>The map with that many references, dropped by <see cref="Drop"/>; null when there is no live map (T7).</returns>
    [Diagnostics.HotPath]
    public DmaMap? TryGetMap(IoContext context, int count = 1)
    {
        DmaMap? map = Volatile.Read(ref _live);
        return map is not null && map.Gate.TryEnter(context.Slot, count) ? map : null;
    }

    /// <summary>Drops a reference. Never sleeps: what it sets off is done by workers (T8). Callable in completion context.</summary>
    /// <param name="map">The map.</param>
    /// <param name="context">The context with which the reference was taken, entered or visited by the caller.</param>
    /// <param name="count">How many references.</param>
    [Diagnostics.HotPath]
    public static void Drop(DmaMap map, IoContext context, int count = 1) => map.Gate.Exit(context.Slot, count);

    /// <inheritdoc/>
    public void Describe(SnapshotBuilder snapshot)
    {
        lock (_lock)
        {
            DmaMap? live = _live;
            TimeSpan? oldest = null;
            foreach (DmaMap map in _killed.Append(live).OfType<DmaMap>())
            {
                if (snapshot.InFlight.TryGetValue(map, out (int Requests, TimeSpan Oldest, string Ring) flight) && (oldest is null || flight.Oldest > oldest))
                    oldest = flight.Oldest;
            }

            string state = _state == State.Live && _driver.IsLost ? "Dead" : _state.ToString();
            snapshot.Tokens.Add(new TokenState(Name, _owner.Name, Buffer.Name, state, live?.Generation, live?.Gate.Users ?? 0, oldest));
            foreach (DmaMap map in _killed)
            {
                string keptBy = !map.Gate.IsDrained
                    ? snapshot.InFlight.TryGetValue(map, out (int Requests, TimeSpan Oldest, string Ring) flight)
                        ? $"{flight.Requests} requests in flight on {flight.Ring}, the oldest for {flight.Oldest.TotalMilliseconds:0} ms"
                        : $"{map.Gate.Users} requests"
                    : Buffer.Reservation.IsLocked ? "the unmap worker, which waits for the reservation lock" : "the unmap worker";
                snapshot.KilledMaps.Add(new KilledMapState(Name, map.Generation, map.Gate.Users, keptBy));
            }
        }
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>The driver has attached more devices: they tell this token of their reset and removal from now on.</summary>
    internal void HoldDevices()
    {
        foreach (DmaDevice device in _driver.Devices)
        {
            bool isNew;
            lock (_lock)
                isNew = _holding.Add(device);
            if (isNew)
                device.AddHolder(this);
        }
    }

    private WorkQueue Workers => _options.Workers ?? TokenWorkers.Queue;

    private static void Guarded(string callback, Action action)
    {
        try
        {
            action();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // There is no caller to tell, or one who is told something else. The fault is reported, and what Core owns is still given back.
            DmaBufIoDiagnostics.Report(new DriverFault(callback, e));
        }
    }
}
