using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Io;
using DmaBufIo.Plugins;

namespace DmaBufIo.Fixtures.Good;

public class FakeDisk(string name) : BlockDevice
{
    public override string Name => name;

    public override long Capacity => 4096;

    public override QueueLimits Limits => new(512);

    public override bool IsRemoved => false;

    public override string Description => $"fake disk {name}";

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => throw new NotSupportedException("A fake disk does no I/O.");
}

public sealed class PairFactory(Journal journal) : IBlockDeviceFactory
{
    public string Word => "pair";

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members)
    {
        if (expression.Switch("fail", false))
            throw new InvalidOperationException("the pair cannot be made");
        string name = $"pair({string.Join(",", members.Select(static m => m.Name))})";
        journal.Write($"create {name}");
        return expression.Switch("resets", false) ? new ResettablePair(name, journal) : new PairDevice(name, journal);
    }
}

public class PairDevice(string name, Journal journal) : FakeDisk(name), IDisposable
{
    public void Dispose()
    {
        journal.Write($"dispose {Name}");
        GC.SuppressFinalize(this);
    }
}

/// <summary>One that has a reset of its own.</summary>
public sealed class ResettablePair(string name, Journal journal) : PairDevice(name, journal), IResettable
{
    private readonly Journal _journal = journal;

    public void Reset() => _journal.Write($"reset {Name}");
}
