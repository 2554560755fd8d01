using DmaBufIo.Errors;

namespace DmaBufIo.Importers.Rnic.Hardware;

/// <summary>What connects the cards of one plugin scope: knows them by name. Any thread.</summary>
/// <remarks>Its lock orders connecting and disappearing: it is taken before any lock of a card or a link.</remarks>
public sealed class RnicWire
{
    private readonly Dictionary<string, RnicDevice> _devices = new(StringComparer.Ordinal);
    private volatile RnicEngine[] _inline = [];

    /// <summary>Guards the names, and connecting.</summary>
    internal Lock Connecting { get; } = new();

    internal void Add(RnicDevice device)
    {
        lock (Connecting)
        {
            if (!_devices.TryAdd(device.Name, device))
                throw RnicError.Make(Errno.EEXIST, device.Name, "a card of this name is on the wire already", "Give each card its own name");
            if (!device.Engine.HasThread)
                _inline = [.. _inline, device.Engine];
        }
    }

    internal void Remove(RnicDevice device)
    {
        lock (Connecting)
        {
            _devices.Remove(device.Name);
            _inline = [.. _inline.Where(e => e != device.Engine)];
        }
    }

    /// <summary>The card of that name, or null. With <see cref="Connecting"/> held.</summary>
    internal RnicDevice? Find(string name) => _devices.GetValueOrDefault(name);

    /// <summary>Lets all cards without a thread work: the data path of a connection is its sender's, also where the receiver polls.</summary>
    internal void AdvanceInline()
    {
        foreach (RnicEngine engine in _inline)
            engine.Advance();
    }
}
