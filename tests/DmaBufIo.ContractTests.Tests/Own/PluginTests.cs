using DmaBufIo.Hosting;
using DmaBufIo.Rdma;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>A plugin of this repository: its folder, those it stands on, its expressions.</summary>
internal class OwnPlugin(string? name, string[] others, Func<ContractWorld, string[]> right, Func<ContractWorld, string[]>? wrong = null) : IExpressionFixture
{
    internal const string Nvme = "DmaBufIo.Importers.NvmePci";
    internal const string Model = "DmaBufIo.Pci.Model";

    public string? PluginFolder => name is null ? null : PluginFolders.Of(name);

    public IReadOnlyDictionary<string, string?> Settings { get; init; } = new Dictionary<string, string?>();

    public IReadOnlyList<string> OtherPluginFolders => [.. others.Select(PluginFolders.Of)];

    public IReadOnlyList<string> Right(ContractWorld world) => right(world);

    public IReadOnlyList<string> Wrong(ContractWorld world) => wrong is null ? [] : wrong(world);

    public virtual void Use(ContractWorld world, OpenedDevice device)
    {
    }
}

public sealed class NvmePciPluginTests() : PluginContract(new OwnPlugin(
    OwnPlugin.Nvme,
    [OwnPlugin.Model],
    static w => [$"nvme:{w.CreateFile("disk", 1 << 20)}"])
{
    Settings = new Dictionary<string, string?> { ["nvme-pci:queueDepth"] = "64", ["nvme-pci:timeout"] = "30000" },
});

/// <summary>The models that are part of every host of a contract.</summary>
public sealed class ModelsPluginTests() : PluginContract(new OwnPlugin(
    null,
    [OwnPlugin.Nvme],
    static _ => ["null:1M", "null:1M,lba=4096,mdts=64K,entries=16,queues=2,slot=hb0/rp1", "moving"],
    static _ => ["null:\"\"", "null:0", "null:1000", "null:1M,lba=513", "null:1M,mdts=5000", "null:1M,entries=1", "null:1M,queues=0", "moving:text"]));

public sealed class NvmeModelPluginTests() : PluginContract(new OwnPlugin(
    OwnPlugin.Model,
    [OwnPlugin.Nvme],
    static w =>
    [
        $"nvme:{w.CreateFile("disk", 1 << 20)}",
        $"nvme:{w.CreateFile("disk", 1 << 20)},lba=4096,size=2M,ro=off,mdts=64K,entries=16,queues=2,thread=off,cache=on,cachesize=64K,slot=hb0/rp7",
    ],
    static w =>
    [
        "nvme:\"\"",
        "nvme:/there/is/no/such/file",
        $"nvme:{w.Folder}",
        .. new[] { "lba=513", "lba=1024", "mdts=5000", "mdts=4K", "entries=1", "entries=65537", "queues=0", "queues=2048", "cachesize=100", "cache=off,cachesize=64K", "ro=perhaps" }
            .Select(o => $"nvme:{w.CreateFile("disk", 1 << 20)},{o}"),
    ]));

public sealed class StackedRaidPluginTests() : PluginContract(new OwnPlugin(
    "DmaBufIo.Importers.StackedRaid",
    [],
    static _ =>
    [
        "linear(puppet:a,puppet:b)",
        "raid0:64K(puppet:a,puppet:b)",
        "raid1(puppet:a,puppet:b)",
        "raid10:64K,copies=2,degraded=off(puppet:a,puppet:b,puppet:c,puppet:d)",
    ],
    static _ =>
    [
        "linear:text(puppet:a,puppet:b)",
        "raid0:5000(puppet:a,puppet:b)",
        "raid0:2K(puppet:a,puppet:b)",
        "raid0:2G(puppet:a,puppet:b)",
        "raid0:2M(puppet:a,puppet:b)",
        "raid1(puppet:a)",
        "raid1:other(puppet:a,puppet:b)",
        "raid10(puppet:a,puppet:b,puppet:c)",
        "raid10:64K,copies=1(puppet:a,puppet:b)",
        "raid10:64K,copies=17(puppet:a,puppet:b)",
    ]));

public sealed class ExtentFilePluginTests() : PluginContract(new OwnPlugin(
    "DmaBufIo.Importers.ExtentFile",
    [],
    static _ => ["extent:data,size=1M@(puppet:a,size=4M)", "extent:data,size=1M@(puppet:a,size=4M,puppet:b,size=4M)"],
    static _ => ["extent:\"\"@(puppet:a)", "extent:data@(puppet:a)", "extent:data,size=1G@(puppet:a)", $"extent:{new string('n', 300)}@(puppet:a)"]));

public sealed class RnicPluginTests() : PluginContract(new RnicPlugin());

public sealed class UdmabufPluginTests() : PluginContract(new OwnPlugin(
    "DmaBufIo.Exporters.Udmabuf",
    [],
    static _ => ["udmabuf", "udmabuf:limit=2M,kernel=off"],
    static _ => ["udmabuf:text"])
{
    Settings = new Dictionary<string, string?> { ["udmabuf:limit"] = "1G" },
});

public sealed class GpuPluginTests() : PluginContract(new OwnPlugin(
    "DmaBufIo.Exporters.Gpu",
    [],
    static _ => ["gpu", "gpu:card1,vram=16M,slot=hb0/rp3,placement=vram,priority=1", "gpu:placement=system"],
    static _ => ["gpu:vram=1000", "gpu:priority=99999999999", "gpu:placement=nowhere"]));

public sealed class RamDiskPluginTests() : PluginContract(new OwnPlugin("RamDisk", [], static _ => ["ramdisk:1M"], static _ => ["ramdisk:\"\"", "ramdisk:1000", "ramdisk:lots"]));

/// <summary>Network cards: used by a queue that is made and closed.</summary>
internal sealed class RnicPlugin() : OwnPlugin(
    "DmaBufIo.Importers.Rnic",
    [],
    static _ => ["rnic:left", "rnic:left,thread=off,slot=hb0/rp5"],
    static _ => ["rnic:\"\""])
{
    public override void Use(ContractWorld world, OpenedDevice device)
    {
        using RdmaCompletionQueue completions = device.RdmaDevice.CreateCompletionQueue(16);
    }
}

/// <summary>The plugin with a fault; without one it is correct.</summary>
internal sealed class FaultyPluginFixture : IExpressionFixture
{
    internal FaultyPluginFixture(string? fault) => AppContext.SetData("faulty-plugin", fault);

    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyPlugin");

    public IReadOnlyList<string> Right(ContractWorld world) => ["thing:1M", "thing:1M,colour=blue"];

    public IReadOnlyList<string> Wrong(ContractWorld world) => ["thing:lots", "thing:1000"];
}

public sealed class FaultyPluginTests(string? fault = null) : PluginContract(new FaultyPluginFixture(fault));
