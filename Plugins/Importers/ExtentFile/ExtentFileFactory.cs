using System.Text;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;

namespace DmaBufIo.Importers.ExtentFile;

/// <summary>The word <c>extent:NAME[,size=BYTES]@(A,…)</c>: a file of the volume on these devices, which is made where there is none.</summary>
public sealed class ExtentFileFactory : IFileFactory
{
    private const int LongestName = 255;

    // One look at a map, or change of it, at a time: a volume has no other users than this process. Held across I/O.
    private static readonly SleepingMutex s_changing = new("maps of files in extents");

    // Files that are open, and how often: their extents are in use. More come with s_changing held; guarded by itself, for a file may close where nobody may sleep.
    private static readonly Dictionary<(Guid Volume, string Name), int> s_open = [];

    /// <inheritdoc/>
    public string Word => "extent";

    /// <inheritdoc/>
    public IoFile Open(DeviceExpression expression, IReadOnlyList<BlockDevice> members, OpenFlags flags)
    {
        Check(expression, members.Count);
        string name = expression.Text!;
        long? size = expression.Options.ContainsKey("size") ? expression.Size("size", 0) : null;
        if (size is not null && flags.HasFlag(OpenFlags.ReadOnly))
            size = null; // what is opened for reading is not made
        Errno status = s_changing.Lock();
        if (status != Errno.Ok)
            throw new DmaBufIoException(status, ExtentFilePlugin.PluginName, name, "the thread is opening a file in extents already", "Do not open files from within callbacks of devices");
        try
        {
            using var volume = new ExtentVolume(members);
            ExtentMap? map = volume.Read(size is null ? null : name, Labels(expression, members));
            if (!flags.HasFlag(OpenFlags.ReadOnly))
                volume.CatchUp();
            ExtentEntry? entry = map?.Files.FirstOrDefault(f => f.Name == name);
            if (entry is null || (size is { } wanted && wanted != entry.Size))
            {
                if (size is null)
                    throw NotThere(name, map, flags);
                if (map is not null && IsOpen((map.Volume, name)))
                    throw new DmaBufIoException(Errno.EBUSY, ExtentFilePlugin.PluginName, name, $"the file is open; it has {entry!.Size} bytes and cannot be made anew with {size}", "Close it first, or open it without the option size");
                (map, entry) = Make(volume, map, members, name, size.Value);
            }

            CheckRoom(expression, members, entry);
            (Guid Volume, string Name) key = (map!.Volume, name);
            var file = new ExtentFile(members, entry, flags, () => Closed(key));
            lock (s_open)
                s_open[key] = s_open.GetValueOrDefault(key) + 1;
            return file;
        }
        finally
        {
            s_changing.Unlock();
        }
    }

    /// <inheritdoc/>
    public long MemberCapacity(DeviceExpression expression, long size)
    {
        int devices = Math.Max(1, expression.Members.Count);
        return ExtentMap.HeaderSize + (((size / devices) + (2 * ExtentMap.Unit) - 1) & -ExtentMap.Unit);
    }

    /// <inheritdoc/>
    public DeviceMark? Look(BlockDevice device)
    {
        using var volume = new ExtentVolume([device]);
        return volume.Look() is { } map ? new DeviceMark($"a device of the volume {map.Volume}, with {map.Files.Count} files", [Word], 0, ExtentMap.HeaderSize, 0) : null;
    }

    private static bool IsOpen((Guid Volume, string Name) key)
    {
        lock (s_open)
            return s_open.ContainsKey(key);
    }

    private static string[] Labels(DeviceExpression expression, IReadOnlyList<BlockDevice> devices) => [.. devices.Select((d, i) => $"{expression.Members[i].Brief} ({d.Name})")];

    private static DmaBufIoException NotThere(string name, ExtentMap? map, OpenFlags flags)
    {
        string remedy = flags.HasFlag(OpenFlags.ReadOnly)
            ? map is { Files.Count: > 0 } ? $"Name a file that is there: {string.Join(", ", map.Files.Take(8).Select(static f => f.Name))}" : "Name the devices of a volume"
            : "Give the option size to make it";
        return new DmaBufIoException(Errno.ENOENT, ExtentFilePlugin.PluginName, name, map is null ? "there is no volume on the devices" : "there is no such file", remedy);
    }

    /// <summary>A device that was cut short no longer has what the map says.</summary>
    private static void CheckRoom(DeviceExpression expression, IReadOnlyList<BlockDevice> devices, ExtentEntry entry)
    {
        foreach (FileExtent extent in entry.Extents)
        {
            bool isOn = (uint)extent.Device < (uint)devices.Count && extent.Start >= ExtentMap.HeaderSize && extent.Length > 0 && extent.Start <= devices[extent.Device].Capacity - extent.Length;
            if (isOn)
                continue;
            string problem = (uint)extent.Device < (uint)devices.Count
                ? $"a part of it ends at byte {extent.Start + extent.Length} of {Labels(expression, devices)[extent.Device]}, which has {devices[extent.Device].Capacity}"
                : $"a part of it lies on device {extent.Device} of {devices.Count}";
            throw new DmaBufIoException(Errno.EINVAL, ExtentFilePlugin.PluginName, entry.Name, problem, "The device was cut short, or is another one: give the device that was written", range: $"{extent.Start}+{extent.Length}");
        }
    }

    private static void Closed((Guid Volume, string Name) key)
    {
        lock (s_open)
        {
            if (--s_open[key] == 0)
                s_open.Remove(key);
        }
    }

    private static (ExtentMap Map, ExtentEntry Entry) Make(ExtentVolume volume, ExtentMap? map, IReadOnlyList<BlockDevice> devices, string name, long bytes)
    {
        map ??= new ExtentMap(Guid.NewGuid(), ExtentVolume.FirstNumber - 1, devices.Count, []);
        ExtentEntry[] others = [.. map.Files.Where(f => f.Name != name)];
        long room = (bytes + ExtentMap.Unit - 1) & -ExtentMap.Unit;
        List<FileExtent> extents = Allocation.TryFind(room, [.. devices.Select(static d => d.Capacity)], others) ?? throw new DmaBufIoException(
            Errno.ENOSPC, ExtentFilePlugin.PluginName, name, $"there is no room for {bytes} bytes", "Give larger devices: a volume keeps what it has, also of files that nobody needs any more");
        var entry = new ExtentEntry(name, bytes, extents);
        map = map with { Number = map.Number + 1, Files = [.. others, entry] };
        volume.Write(map);
        return (map, entry);
    }

    private static void Check(DeviceExpression expression, int members)
    {
        expression.AllowOnly("size");
        if (string.IsNullOrEmpty(expression.Text))
            throw expression.Broken(expression.Position, "'extent' needs the name of a file", "Write for example extent:data@(raid1(A,B))");
        if (Encoding.UTF8.GetByteCount(expression.Text) > LongestName)
            throw expression.Broken(expression.Position, $"the name is longer than {LongestName} bytes", "Give a shorter name");
        if (members == 0)
            throw expression.Broken(expression.Position, "'extent' stands on one or more devices", $"Write for example extent:{expression.Text}@(A)");
    }
}
