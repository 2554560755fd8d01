using DmaBufIo.Block;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Pci.Model;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.StackedRaid.Tests.Harness;

/// <summary>A set of sets that a seed decides, with its mirrors and its controllers at hand.</summary>
internal sealed class RandomSet
{
    private readonly SetRig _rig;
    private readonly Random _random;
    private readonly bool _threads;

    internal RandomSet(SetRig rig, int seed, bool threads = false)
    {
        _rig = rig;
        _random = new Random(seed);
        _threads = threads;
        Device = Make(depth: 0);
    }

    internal BlockDevice Device { get; }

    internal List<IRedundantDevice> Mirrors { get; } = [];

    /// <summary>A mirror that lacks nobody loses a member, or one that lacks somebody gets a new one.</summary>
    /// <returns>What was done, or null for nothing.</returns>
    internal string? Disturb(Random random)
    {
        if (Mirrors.Count == 0)
            return null;
        IRedundantDevice mirror = Mirrors[random.Next(Mirrors.Count)];
        IReadOnlyList<RedundantMember> members = mirror.Members;
        int missing = members.ToList().FindIndex(static m => m.State == "Missing");
        if (missing >= 0)
        {
            mirror.Replace(missing, Disk(((BlockDevice)mirror).Capacity + (64 << 10)));
            return $"replaced {missing}";
        }

        if (!mirror.IsInSync)
            return null;
        int lost = random.Next(members.Count);
        mirror.Fail(lost);
        return $"failed {lost}";
    }

    private BlockDevice Make(int depth)
    {
        int kind = depth == 3 ? 0 : _random.Next(depth == 0 ? 1 : 0, 5);
        if (kind == 0)
            return Disk((256 << 10) + (_random.Next(8) * (64 << 10)));
        IBlockDeviceFactory factory = kind switch
        {
            1 => new LinearFactory(),
            2 => new Raid0Factory(),
            3 => new Raid1Factory(),
            _ => new Raid10Factory(),
        };
        int count = kind == 4 ? 4 : 2 + _random.Next(2);
        BlockDevice[] members = [.. Enumerable.Range(0, count).Select(_ => Make(depth + 1))];
        BlockDevice set = _rig.Set(factory, kind is 2 or 4 ? $"{4 << _random.Next(5)}K" : null, members);
        if (kind == 3)
            Mirrors.Add((IRedundantDevice)set);
        return set;
    }

    private BlockDevice Disk(long size) => _rig.Disk(size, new NvmeModelOptions { OwnThread = _threads, LbaSize = 512, MaxQueues = 64 });
}
