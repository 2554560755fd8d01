using System.Text;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.ExtentFile;

/// <summary>The word <c>extent:NAME[,size=BYTES]@(A,…)</c>: a file of the volume on these devices, which is made where there is none.</summary>
public sealed class ExtentFileFactory : IFileFactory
{
    private const int LongestName = 255;

    // One change of a map at a time: a volume has no other users than this process.
    private static readonly Lock s_changing = new();

    // Files that are open, and how often: their extents are in use. Guarded by s_changing.
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
        lock (s_changing)
        {
            using var volume = new ExtentVolume(members);
            ExtentMap? map = volume.Read(size is null ? null : name);
            if (!flags.HasFlag(OpenFlags.ReadOnly))
                volume.CatchUp();
            ExtentEntry? entry = map?.Files.FirstOrDefault(f => f.Name == name);
            if (entry is null || (size is { } wanted && wanted != entry.Size))
            {
                if (map is not null && s_open.ContainsKey((map.Volume, name)))
                    throw new DmaBufIoException(Errno.EBUSY, ExtentFilePlugin.PluginName, name, $"the file is open; it has {entry!.Size} bytes and cannot be made anew with {size}", "Close it first, or open it without the option size");
                (map, entry) = Make(volume, map, members, name, size);
            }

            (Guid Volume, string Name) key = (map!.Volume, name);
            var file = new ExtentFile(members, entry, flags, () => Closed(key));
            s_open[key] = s_open.GetValueOrDefault(key) + 1;
            return file;
        }
    }

    /// <inheritdoc/>
    public long MemberCapacity(DeviceExpression expression, long size)
    {
        int devices = Math.Max(1, expression.Members.Count);
        return ExtentMap.HeaderSize + (((size / devices) + (2 * ExtentMap.Unit) - 1) & -ExtentMap.Unit);
    }

    private static void Closed((Guid Volume, string Name) key)
    {
        lock (s_changing)
        {
            if (--s_open[key] == 0)
                s_open.Remove(key);
        }
    }

    private static (ExtentMap Map, ExtentEntry Entry) Make(ExtentVolume volume, ExtentMap? map, IReadOnlyList<BlockDevice> devices, string name, long? size)
    {
        if (size is not { } bytes)
            throw new DmaBufIoException(Errno.ENOENT, ExtentFilePlugin.PluginName, name, map is null ? "there is no volume on the devices" : "there is no such file", "Give the option size to make it");
        map ??= new ExtentMap(Guid.NewGuid(), ExtentVolume.FirstNumber - 1, devices.Count, []);
        ExtentEntry[] others = [.. map.Files.Where(f => f.Name != name)];
        long room = (bytes + ExtentMap.Unit - 1) & -ExtentMap.Unit;
        List<FileExtent> extents = Allocation.TryFind(room, [.. devices.Select(static d => d.Capacity)], others) ?? throw new DmaBufIoException(
            Errno.ENOSPC, ExtentFilePlugin.PluginName, name, $"there is no room for {bytes} bytes", "Give larger devices, or remove files");
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
