using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The NVMe driver on the controller model, as block devices.</summary>
internal sealed class NvmeBlockFixture(string options = "", BlockDeviceCapabilities without = BlockDeviceCapabilities.None) : IBlockDeviceFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.NvmePci");

    public IReadOnlyList<string> OtherPluginFolders => [PluginFolders.Of("DmaBufIo.Pci.Model")];

    public BlockDeviceCapabilities Capabilities => BlockDeviceCapabilities.Storage & ~without;

    public OpenedDevice Open(ContractWorld world) => world.Host.Open($"nvme:{world.CreateFile("disk", 4 << 20)}{options}");

    public OpenedDevice OpenReadOnly(ContractWorld world) => world.Host.Open($"nvme:{world.CreateFile("disk", 4 << 20)}{options}", readOnly: true);

    public OpenedDevice OpenLarge(ContractWorld world) => world.Host.Open($"nvme:{world.CreateFile("disk", 5L << 30)}{options}");
}

public sealed class NvmeBlockDeviceTests() : BlockDeviceContract(new NvmeBlockFixture());

[Trait("Duration", "Minutes")]
public sealed class NvmeInlineBlockDeviceTests() : BlockDeviceContract(new NvmeBlockFixture(",thread=off,mdts=8K"));

[Trait("Duration", "Minutes")]
public sealed class NvmeLargeBlocksBlockDeviceTests() : BlockDeviceContract(new NvmeBlockFixture(",lba=4096,cache=off,mdts=0"));

[Trait("Duration", "Minutes")]
public sealed class NvmeSmallQueuesBlockDeviceTests() : BlockDeviceContract(new NvmeBlockFixture(",entries=8,queues=4,cachesize=1M"));

/// <summary>The driver on a controller that moves nothing.</summary>
internal sealed class NullFixture : IBlockDeviceFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.NvmePci");

    public BlockDeviceCapabilities Capabilities =>
        BlockDeviceCapabilities.Tokens | BlockDeviceCapabilities.Reset | BlockDeviceCapabilities.Remove | BlockDeviceCapabilities.Large;

    public OpenedDevice Open(ContractWorld world) => world.Host.Open("null:16M");

    public OpenedDevice OpenLarge(ContractWorld world) => world.Host.Open("null:1T");
}

public sealed class NullBlockDeviceTests() : BlockDeviceContract(new NullFixture());

/// <summary>The sample of the tutorial.</summary>
internal sealed class RamDiskBlockFixture : IBlockDeviceFixture
{
    public string? PluginFolder => PluginFolders.Of("RamDisk");

    public BlockDeviceCapabilities Capabilities =>
        BlockDeviceCapabilities.KeepsData | BlockDeviceCapabilities.MovesData | BlockDeviceCapabilities.Tokens | BlockDeviceCapabilities.Remove | BlockDeviceCapabilities.Large;

    public OpenedDevice Open(ContractWorld world) => world.Host.Open("ramdisk:4M");

    public OpenedDevice OpenLarge(ContractWorld world) => world.Host.Open("ramdisk:5G");
}

public sealed class RamDiskBlockDeviceTests() : BlockDeviceContract(new RamDiskBlockFixture());

/// <summary>The disk with a fault; without one it is correct.</summary>
internal sealed class FaultyDiskFixture(string? fault, string shape = "", string size = "4M", TimeSpan? patience = null) : IBlockDeviceFixture
{
    public TimeSpan? Patience => patience;

    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyBlockDevice");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-block-device:fault"] = fault };

    public BlockDeviceCapabilities Capabilities => BlockDeviceCapabilities.Storage;

    public OpenedDevice Open(ContractWorld world) => world.Host.Open($"faulty:{size}{shape}");

    public OpenedDevice OpenReadOnly(ContractWorld world) => world.Host.Open($"faulty:{size}{shape},ro=on");

    public OpenedDevice OpenLarge(ContractWorld world) => world.Host.Open($"faulty:5G{shape}");
}

public sealed class FaultyDiskTests(string? fault = null, string shape = "") : BlockDeviceContract(new FaultyDiskFixture(fault, shape));

/// <summary>The same disk as an importer: a block device without a PCI function, which has a reset of its own.</summary>
internal sealed class FaultyDiskImporterFixture(string? fault) : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyBlockDevice");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-block-device:fault"] = fault };

    public ImporterCapabilities Capabilities => ImporterCapabilities.Storage;

    public ImporterTarget Open(ContractWorld world) => new BlockDeviceTarget(world, "faulty:4M");
}

public sealed class FaultyDiskImporterTests(string? fault = null) : ImporterContract(new FaultyDiskImporterFixture(fault));

/// <summary>The device on one other with a fault; without one it is correct.</summary>
internal sealed class FaultyStackFixture(string? fault) : IBlockDeviceFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyBlockDevice");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-block-device:fault"] = fault };

    public BlockDeviceCapabilities Capabilities =>
        BlockDeviceCapabilities.KeepsData | BlockDeviceCapabilities.MovesData | BlockDeviceCapabilities.Tokens | BlockDeviceCapabilities.Stacked;

    public int MemberCount => 1;

    public OpenedDevice Open(ContractWorld world) => world.Host.Open("faulty-stack(faulty:4M)");

    public OpenedDevice OpenOver(ContractWorld world, IReadOnlyList<string> members) => world.Host.Open($"faulty-stack({members[0]})");
}

public sealed class FaultyStackTests(string? fault = null) : BlockDeviceContract(new FaultyStackFixture(fault));
