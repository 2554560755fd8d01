using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Importers.Rnic.Queues;
using DmaBufIo.Importers.Rnic.Regions;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic;

/// <summary>A card: an engine, a table of keys and a port to memory of its own, on a wire with others. The hardware is a stub; how it behaves towards memory, keys and peers is not.</summary>
public sealed class RnicDevice : RdmaDevice, ITokenOwner
{
    private const int MaxCompletions = 1 << 20;

    private readonly IDmaFabric _fabric;
    private readonly DmaAddressSpace _space;
    private readonly Lock _lock = new();
    private readonly Dictionary<int, RnicQueuePair> _pairs = [];
    private int _lastNumber;
    private int _regions;
    private bool _disposed;

    /// <summary>Makes a card and puts it on the wire.</summary>
    /// <param name="options">What it is made of.</param>
    /// <param name="wire">The wire; outlives the card.</param>
    /// <param name="fabric">Gives the card its address space, under the name "rnic:NAME".</param>
    /// <exception cref="DmaBufIoException">The name is empty (<c>EINVAL</c>) or taken (<c>EEXIST</c>).</exception>
    public RnicDevice(RnicOptions options, RnicWire wire, IDmaFabric fabric)
    {
        if (options.Name.Length == 0)
            throw RnicError.Make(Errno.EINVAL, "card", "the name is empty", "Give the card a name");
        Name = options.Name;
        Wire = wire;
        _fabric = fabric;
        (_space, Port) = fabric.AddDevice($"rnic:{options.Name}");
        Device = new DmaDevice($"rnic:{options.Name}", _space) { Location = options.Location };
        try
        {
            Engine = new RnicEngine($"rnic:{options.Name}", options.OwnThread);
        }
        catch
        {
            fabric.RemoveDevice(_space);
            throw;
        }

        try
        {
            wire.Add(this);
        }
        catch
        {
            Engine.Dispose();
            fabric.RemoveDevice(_space);
            throw;
        }

        Engine.Start();
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override string Description => $"RDMA card on the wire of the plugin, {(Engine.HasThread ? "a thread of its own" : "works inline")}; {Keys.Count} regions";

    /// <inheritdoc/>
    public override DmaDevice Device { get; }

    internal RnicWire Wire { get; }

    internal RnicEngine Engine { get; }

    internal DmaPort Port { get; }

    internal KeyTable Keys { get; } = new();

    /// <summary>Tokens of regions whose release has not finished.</summary>
    internal int Regions => Volatile.Read(ref _regions);

    /// <inheritdoc/>
    public override RdmaMemoryRegion RegisterMemory(DmaBuf buffer, RdmaAccess access, TokenOptions? options = null)
    {
        if ((access & ~(RdmaAccess.LocalWrite | RdmaAccess.RemoteWrite | RdmaAccess.RemoteRead)) != 0)
            throw RnicError.Make(Errno.EINVAL, buffer.Name, $"'{access}' has rights that do not exist", "Combine LocalWrite, RemoteWrite and RemoteRead");
        if ((access & RdmaAccess.RemoteWrite) != 0 && (access & RdmaAccess.LocalWrite) == 0)
            throw RnicError.Make(Errno.EINVAL, buffer.Name, "remote write needs local write", "Add RdmaAccess.LocalWrite");
        Device.ThrowIfRemoved(RnicPlugin.PluginName);
        var region = new RnicRegion(this, buffer, access, options ?? TokenOptions.Default);
        try
        {
            Keys.Add(region);
            return region;
        }
        catch
        {
            region.Token.Release();
            throw;
        }
    }

    /// <inheritdoc/>
    public override RdmaCompletionQueue CreateCompletionQueue(int entries)
    {
        if (entries is < 1 or > MaxCompletions)
            throw RnicError.Make(Errno.EINVAL, Name, $"{entries} completions are out of range", $"Use 1 to {MaxCompletions}");
        Device.ThrowIfRemoved(RnicPlugin.PluginName);
        return new RnicCompletionQueue(this, entries);
    }

    /// <inheritdoc/>
    public override RdmaQueuePair CreateQueuePair(RdmaQueuePairOptions? options = null)
    {
        options ??= new RdmaQueuePairOptions();
        options.Validate();
        lock (_lock)
        {
            Device.ThrowIfRemoved(RnicPlugin.PluginName);
            var pair = new RnicQueuePair(this, _lastNumber + 1, options);
            _lastNumber++;
            _pairs.Add(pair.Number, pair);
            Engine.Add(pair);
            return pair;
        }
    }

    /// <inheritdoc/>
    public override void Reset()
    {
        foreach (RnicQueuePair pair in Pairs())
            pair.Fail(Errno.ECANCELED);
        Device.KillMaps();
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        lock (_lock)
        {
            if (_disposed)
                return;
            _disposed = true;

            // From here on nobody makes a pair or a region.
            Device.MarkRemoved();
        }

        Wire.Remove(this);

        // Requests first: once their pairs have failed, no engine touches this card's memory (T11).
        foreach (RnicQueuePair pair in Pairs())
            pair.Fail(Errno.ENODEV);
        Engine.Dispose();
        Device.Remove();
        _fabric.RemoveDevice(_space);
    }

    /// <inheritdoc/>
    public override string ToString() => Device.Name;

    void ITokenOwner.Get() => Interlocked.Increment(ref _regions);

    void ITokenOwner.Put() => Interlocked.Decrement(ref _regions);

    internal RnicQueuePair? Find(int number)
    {
        lock (_lock)
            return _pairs.GetValueOrDefault(number);
    }

    internal void Forget(RnicQueuePair pair)
    {
        lock (_lock)
            _pairs.Remove(pair.Number);
        Engine.Remove(pair);
    }

    /// <summary>Ends the keys of a region that no posted request names.</summary>
    /// <param name="region">The region.</param>
    /// <returns>False when that was done before.</returns>
    /// <exception cref="DmaBufIoException">A posted request names it (<c>EBUSY</c>).</exception>
    internal bool TryForget(RnicRegion region)
    {
        lock (_lock)
        {
            if (region.IsDeregistered)
                return false;
            foreach (RnicQueuePair pair in _pairs.Values)
            {
                if (pair.Names(region.LocalKey))
                {
                    throw RnicError.Make(
                        Errno.EBUSY, region.ToString(), $"work requests that are posted to {pair} name the region", "Reap them, or flush them by disconnecting, and deregister again");
                }
            }

            Keys.Remove(region);
            region.MarkDeregistered();
            return true;
        }
    }

    private RnicQueuePair[] Pairs()
    {
        lock (_lock)
            return [.. _pairs.Values];
    }
}
