using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Memory;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.ExtentFile;

/// <summary>Reads and changes the map of a volume. Opened for the moment that takes; its memory is the volume's own and never moves (T15).</summary>
internal sealed class ExtentVolume : IDisposable
{
    private readonly IReadOnlyList<BlockDevice> _devices;
    private readonly MemoryRegion _memory = MemoryRegion.Allocate("extent map", ExtentMap.Size);
    private readonly Ring _ring = new(new RingOptions { Name = "extent map", Entries = 4 });
    private readonly List<BlockDeviceFile> _files = [];
    private readonly List<int> _behind = []; // devices that the newest map has not reached
    private ExtentMap? _newest;

    /// <summary>The number of a volume's first map.</summary>
    internal const ulong FirstNumber = 1;

    internal ExtentVolume(IReadOnlyList<BlockDevice> devices)
    {
        _devices = devices;
        try
        {
            foreach (BlockDevice device in devices)
            {
                var file = new BlockDeviceFile(device);
                _files.Add(file);
                _ring.RegisterBuffer(_files.Count - 1, new BufferRegistration { Memory = _memory, File = file });
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    private string Name => string.Join(", ", _devices.Select(static d => d.Name));

    /// <summary>The newest map that is whole.</summary>
    /// <param name="making">The file that is about to be made, with all its contents to come; or null.</param>
    /// <param name="labels">What the user calls the devices.</param>
    /// <returns>Null when there is no volume on the devices.</returns>
    /// <exception cref="DmaBufIoException">Devices of different volumes, in another order, not all of them, or an old image of one (<c>EINVAL</c>), or one cannot be read.</exception>
    internal ExtentMap? Read(string? making, IReadOnlyList<string> labels)
    {
        ExtentMap? newest = null;
        var found = new (ExtentMap Map, int Index)?[_devices.Count];
        for (int i = 0; i < _devices.Count; i++)
        {
            found[i] = Newest(i);
            if (found[i] is { } own && (newest is null || own.Map.Number > newest.Number))
                newest = own.Map;
        }

        if (newest is not null && newest.Devices != found.Length)
            throw Refused(Errno.EINVAL, $"the volume has {newest.Devices} devices, and {found.Length} are given", "Name all devices of the volume in their order");
        for (int i = 0; newest is not null && i < found.Length; i++)
        {
            // The first map reaches one device after the other. When a crash has kept it from some, its only file may be made again; nothing else is opened, for the blank
            // device may be the wrong one.
            bool isNew = found[i] is null && newest.Number == FirstNumber && making is not null && newest.Files.All(f => f.Name == making);
            bool belongs = isNew || (found[i] is { } own && own.Map.Volume == newest.Volume && own.Index == i);

            // No map is begun before the one before it has reached all devices.
            if (belongs && !isNew && newest.Number - found[i]!.Value.Map.Number > 1)
            {
                throw Refused(
                    Errno.EINVAL, $"{labels[i]} has map {found[i]!.Value.Map.Number} of the volume, and the newest is {newest.Number}: it is an old image of that device",
                    "Give the device itself: no crash leaves it further behind than one map");
            }

            if (belongs && (isNew || found[i]!.Value.Map.Number != newest.Number))
                _behind.Add(i);
            if (!belongs)
                throw Refused(Errno.EINVAL, $"{labels[i]} is not device {i} of the volume of {newest.Devices} devices that another one belongs to", "Name all devices of one volume in their order");
        }

        _newest = newest;
        return newest;
    }

    /// <summary>The newest map on the first device, whatever the others have.</summary>
    internal ExtentMap? Look() => Newest(0)?.Map;

    /// <summary>Writes the next map to all devices and makes it durable: the data of files that it newly names may be written when it returns.</summary>
    internal void Write(ExtentMap map)
    {
        CatchUp();
        for (int i = 0; i < _devices.Count; i++)
            Write(map, i);
        _newest = map;
    }

    /// <summary>
    /// Brings the newest map to devices that a crash has kept it from. The next one takes the place of the one before the newest, which may be the only one they have.
    /// </summary>
    internal void CatchUp()
    {
        foreach (int device in _behind)
            Write(_newest!, device);
        _behind.Clear();
    }

    private (ExtentMap Map, int Index)? Newest(int device)
    {
        (ExtentMap Map, int Index)? newest = null;
        for (ulong place = 0; place < 2 && _devices[device].Capacity >= ExtentMap.HeaderSize; place++)
        {
            Do(device, isWrite: false, ExtentMap.PlaceOf(place));
            if (ExtentMap.Read(_memory.Span(0, ExtentMap.Size), out int index) is { } map && (newest is not { } known || map.Number > known.Map.Number))
                newest = (map, index);
        }

        return newest;
    }

    private void Write(ExtentMap map, int device)
    {
        map.Write(_memory.Span(0, ExtentMap.Size), device);
        Do(device, isWrite: true, ExtentMap.PlaceOf(map.Number));
        _ring.TryFlush(_files[device], 0);
        Run(device, "flushing");
    }

    public void Dispose()
    {
        RemovedBuffer[] removed = [.. Enumerable.Range(0, _files.Count).Where(i => _ring.TokenAt(i) is not null).Select(_ring.RemoveBuffer)];
        _ring.Dispose();
        foreach (RemovedBuffer registration in removed)
            registration.WaitReleased();
        foreach (BlockDeviceFile file in _files)
            file.Put();
        _memory.Dispose();
    }

    private void Do(int device, bool isWrite, long offset)
    {
        if (isWrite)
            _ring.TryWriteFixed(_files[device], device, 0, ExtentMap.Size, offset, 0);
        else
            _ring.TryReadFixed(_files[device], device, 0, ExtentMap.Size, offset, 0);
        Run(device, isWrite ? "writing" : "reading");
    }

    private void Run(int device, string what)
    {
        var completions = new RingCompletion[1];
        _ring.Submit();
        while (_ring.Reap(completions, 1) == 0)
        {
        }

        if (completions[0].Status != Errno.Ok)
            throw Refused(completions[0].Status, $"{what} the map on {_devices[device].Name} failed", "See what the device itself says");
    }

    private DmaBufIoException Refused(Errno errno, string problem, string remedy) => new(errno, ExtentFilePlugin.PluginName, Name, problem, remedy);
}
