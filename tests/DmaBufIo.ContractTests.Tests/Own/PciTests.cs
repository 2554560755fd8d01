using DmaBufIo.Pci;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The NVMe controller model.</summary>
internal sealed class NvmeModelFixture(string options = "") : IPciFunctionFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Pci.Model");

    public IReadOnlyList<string> OtherPluginFolders => [PluginFolders.Of("DmaBufIo.Importers.NvmePci")];

    public PciFunctionCapabilities Capabilities => PciFunctionCapabilities.All;

    public string Expression(ContractWorld world) => $"nvme:{world.CreateFile("disk", 4 << 20)}{options}";

    public FunctionWork CreateWork(PciFunction function) => new NvmeWork(function);

    public ImporterTarget OpenWithDriver(ContractWorld world)
    {
        string path = world.CreateFile("disk", 4 << 20);
        return new BlockDeviceTarget(world, $"nvme:{path}{options}", path);
    }
}

public sealed class NvmeModelFunctionTests() : PciFunctionContract(new NvmeModelFixture());

[Trait("Duration", "Minutes")]
public sealed class NvmeInlineModelFunctionTests() : PciFunctionContract(new NvmeModelFixture(",thread=off,lba=4096,queues=3,entries=4"));

/// <summary>The controller that moves nothing. It is part of the host.</summary>
internal sealed class NullFunctionFixture : IPciFunctionFixture
{
    public string? PluginFolder => null;

    public PciFunctionCapabilities Capabilities => PciFunctionCapabilities.Model | PciFunctionCapabilities.Dma;

    public string Expression(ContractWorld world) => "null:16M";

    public FunctionWork CreateWork(PciFunction function) => new NvmeWork(function);
}

public sealed class NullFunctionTests() : PciFunctionContract(new NullFunctionFixture());

/// <summary>The small function with a fault; without one it is correct.</summary>
internal sealed class FaultyFunctionFixture(string? fault, string shape = "") : IPciFunctionFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyFunction");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-function:fault"] = fault };

    public PciFunctionCapabilities Capabilities => PciFunctionCapabilities.All;

    public string Expression(ContractWorld world) => $"faulty-function:4M{shape}";

    public FunctionWork CreateWork(PciFunction function) => new SmallWork(function);

    public ImporterTarget OpenWithDriver(ContractWorld world) => new BlockDeviceTarget(world, "faulty-function:4M");

    private sealed class SmallWork(PciFunction function) : FunctionWork
    {
        public override int Vector => 1;

        public override void Start() => function.Write32(0, 0x04, 1);

        public override void Begin(ulong address)
        {
            function.Write32(0, 0x10, (uint)address);
            function.Write32(0, 0x14, (uint)(address >> 32));
            function.Write32(0, 0x18, 4096);
            function.Write32(0, 0x1C, 0);
            function.Write32(0, 0x20, 1);
        }

        public override bool? Poll() => function.Read32(0, 0x08) switch { 2 => true, 3 => false, _ => null };

        public override void Dispose()
        {
        }
    }
}

public sealed class FaultyFunctionTests(string? fault = null) : PciFunctionContract(new FaultyFunctionFixture(fault));

/// <summary>The small function with its driver, as a block device.</summary>
internal sealed class FaultyFunctionBlockFixture(string? fault) : IBlockDeviceFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyFunction");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-function:fault"] = fault };

    public BlockDeviceCapabilities Capabilities =>
        BlockDeviceCapabilities.Storage & ~(BlockDeviceCapabilities.ReadOnly | BlockDeviceCapabilities.Large);

    public Hosting.OpenedDevice Open(ContractWorld world) => world.Host.Open("faulty-function:4M");
}

[Trait("Duration", "Minutes")]
public sealed class FaultyFunctionBlockTests(string? fault = null) : BlockDeviceContract(new FaultyFunctionBlockFixture(fault));
