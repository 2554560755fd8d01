using System.Globalization;
using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Fixtures.FaultyPlugin;

internal sealed class ThingFactory : IBlockDeviceFactory, IDisposable
{
    private static readonly List<FileStream> s_left = [];
    private readonly IDmaFabric _fabric;
    private int _made;
    private volatile bool _ends;

    public ThingFactory(IDmaFabric fabric)
    {
        _fabric = fabric;

        // No fault: it ends in time, and not at once.
        if (ThingPlugin.Has("housekeeping"))
            new Thread(KeepHouse) { Name = "thing house", IsBackground = true }.Start();
    }

    public string Word => "thing";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        if (ThingPlugin.Has("leaves-a-file"))
            s_left.Add(new FileStream(typeof(object).Assembly.Location, FileMode.Open, FileAccess.Read, FileShare.ReadWrite));
        if (ThingPlugin.Has("leaves-a-thread"))
            new Thread(static () => Thread.Sleep(Timeout.Infinite)) { Name = "thing left", IsBackground = true }.Start();
        if (!ThingPlugin.Has("ignores-options"))
            expression.AllowOnly("colour");
        if (members.Count != 0)
            throw expression.Broken(expression.Members[0].Position, "a thing stands on no other device", "Remove the parentheses");
        if (expression.Options.TryGetValue("colour", out DeviceOption colour) && (colour.Value is not ("red" or "blue") || ThingPlugin.Has("refuses-its-own-option")))
            throw expression.Broken(colour.Position, $"'{colour.Value}' is no colour", "Write colour=red or colour=blue");
        long size = ThingPlugin.Has("throws-what-it-likes") ? long.Parse(expression.Text!.TrimEnd('M'), CultureInfo.InvariantCulture) << 20 : 0;
        if (size == 0 && (!DeviceExpression.TryParseSize(expression.Text ?? "", out size) || size <= 0 || size % 4096 != 0))
        {
            throw ThingPlugin.Has("does-not-point")
                ? new DmaBufIoException(Errno.EINVAL, "FaultyPlugin", "thing", $"'{expression.Text}' is no size", "Write a size")
                : expression.Broken(expression.Position, $"'{expression.Text}' is not a size in whole pages", "Write for example thing:64M");
        }

        return new Thing(new RamDisk.Disk(_fabric, $"thing{Interlocked.Increment(ref _made)}", size));
    }

    public void Dispose() => _ends = true;

    private void KeepHouse()
    {
        while (!_ends)
            Thread.Sleep(700);
    }
}
