using DmaBufIo.ContractTests;

namespace RamDisk.ContractTests;

/// <summary>The contract of the plugin as such: what it says of itself, what it refuses, loading and unloading.</summary>
public sealed class PluginTests() : PluginContract(new PluginFixture());

/// <summary>Fails when a contract that is meant for the plugin is not derived here.</summary>
public sealed class ComplianceTests() : ComplianceContract(new PluginFixture());

/// <summary>Expressions that open, and some that must not.</summary>
internal sealed class PluginFixture : IExpressionFixture
{
    public string? PluginFolder => PluginFolders.Of("RamDisk");

    public IReadOnlyList<string> Right(ContractWorld world) => ["ramdisk:1M"];

    public IReadOnlyList<string> Wrong(ContractWorld world) => ["ramdisk:\"\"", "ramdisk:1000", "ramdisk:lots"];
}
