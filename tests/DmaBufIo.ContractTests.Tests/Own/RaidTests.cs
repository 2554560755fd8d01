using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>Sets of NVMe devices: how the set is written over any members.</summary>
internal sealed class RaidBlockFixture(int members, Func<IReadOnlyList<string>, string> write, BlockDeviceCapabilities more = BlockDeviceCapabilities.None) : IBlockDeviceFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.StackedRaid");

    public IReadOnlyList<string> OtherPluginFolders => [PluginFolders.Of("DmaBufIo.Pci.Model"), PluginFolders.Of("DmaBufIo.Importers.NvmePci")];

    public BlockDeviceCapabilities Capabilities => more | ((BlockDeviceCapabilities.Storage | BlockDeviceCapabilities.Stacked) & ~BlockDeviceCapabilities.ReadOnly);

    public long ReservedOnMembers => more.HasFlag(BlockDeviceCapabilities.Redundant) ? 64 << 10 : 0;

    public int MemberCount => members;

    public OpenedDevice Open(ContractWorld world) => world.Host.Open(write(Disks(world, 2 << 20)));

    public OpenedDevice OpenLarge(ContractWorld world) => world.Host.Open(write(Disks(world, 5L << 30)));

    public OpenedDevice OpenOver(ContractWorld world, IReadOnlyList<string> on) => world.Host.Open(write(on));

    private string[] Disks(ContractWorld world, long size) => [.. Enumerable.Range(0, members).Select(i => $"nvme:{world.CreateFile($"disk{i}", size)}")];
}

[Trait("Duration", "Minutes")]
public sealed class LinearBlockDeviceTests() : BlockDeviceContract(new RaidBlockFixture(2, static m => $"linear({m[0]},{m[1]})"));

[Trait("Duration", "Minutes")]
public sealed class Raid0BlockDeviceTests() : BlockDeviceContract(new RaidBlockFixture(3, static m => $"raid0:16K({m[0]},{m[1]},{m[2]})"));

public sealed class Raid1BlockDeviceTests() : BlockDeviceContract(new RaidBlockFixture(2, static m => $"raid1({m[0]},{m[1]})", BlockDeviceCapabilities.Redundant));

[Trait("Duration", "Minutes")]
public sealed class Raid10BlockDeviceTests() : BlockDeviceContract(
    new RaidBlockFixture(4, static m => $"raid10:64K({m[0]},{m[1]},{m[2]},{m[3]})", BlockDeviceCapabilities.Redundant));

/// <summary>Two deep: stripes over mirrors.</summary>
[Trait("Duration", "Minutes")]
public sealed class StripedMirrorsBlockDeviceTests() : BlockDeviceContract(
    new RaidBlockFixture(4, static m => $"raid0:8K(raid1({m[0]},{m[1]}),raid1({m[2]},{m[3]}))", BlockDeviceCapabilities.Redundant));

/// <summary>Three deep: a mirror over stripes and a row.</summary>
[Trait("Duration", "Minutes")]
public sealed class MirrorOfStripesBlockDeviceTests() : BlockDeviceContract(
    new RaidBlockFixture(4, static m => $"raid1(raid0:4K({m[0]},{m[1]}),linear(raid0:32K({m[2]},{m[3]})))", BlockDeviceCapabilities.Redundant));

/// <summary>The frame's contract of importers on two nestings.</summary>
internal sealed class RaidImporterFixture(int members, Func<IReadOnlyList<string>, string> write) : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.StackedRaid");

    public IReadOnlyList<string> OtherPluginFolders => [PluginFolders.Of("DmaBufIo.Pci.Model"), PluginFolders.Of("DmaBufIo.Importers.NvmePci")];

    public ImporterCapabilities Capabilities =>
        ImporterCapabilities.Remove | ImporterCapabilities.KeepsData | ImporterCapabilities.Vectors | ImporterCapabilities.Interrupts | ImporterCapabilities.MovesData | ImporterCapabilities.Redundant;

    public ImporterTarget Open(ContractWorld world) =>
        new BlockDeviceTarget(world, write([.. Enumerable.Range(0, members).Select(i => $"nvme:{world.CreateFile($"disk{i}", 2 << 20)}")]));
}

[Trait("Duration", "Minutes")]
public sealed class StripedMirrorsImporterTests() : ImporterContract(
    new RaidImporterFixture(4, static m => $"raid0:8K(raid1({m[0]},{m[1]}),raid1({m[2]},{m[3]}))"));

[Trait("Duration", "Minutes")]
public sealed class MirrorOfStripesImporterTests() : ImporterContract(
    new RaidImporterFixture(4, static m => $"raid1(raid0:4K({m[0]},{m[1]}),linear(raid0:32K({m[2]},{m[3]})))"));
