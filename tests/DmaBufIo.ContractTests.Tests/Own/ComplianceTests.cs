namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>A plugin of this repository, by its folder.</summary>
internal sealed class ByFolder(string name) : IPluginFixture
{
    public string? PluginFolder => PluginFolders.Of(name);
}

public sealed class NvmePciComplianceTests() : ComplianceContract(new ByFolder("DmaBufIo.Importers.NvmePci"));

public sealed class NvmeModelComplianceTests() : ComplianceContract(new ByFolder("DmaBufIo.Pci.Model"));

public sealed class StackedRaidComplianceTests() : ComplianceContract(new ByFolder("DmaBufIo.Importers.StackedRaid"));

public sealed class RamDiskComplianceTests() : ComplianceContract(new ByFolder("RamDisk"));

public sealed class ExtentFileComplianceTests() : ComplianceContract(new ByFolder("DmaBufIo.Importers.ExtentFile"));

public sealed class UdmabufComplianceTests() : ComplianceContract(new ByFolder("DmaBufIo.Exporters.Udmabuf"));

public sealed class GpuComplianceTests() : ComplianceContract(new ByFolder("DmaBufIo.Exporters.Gpu"));

/// <summary>A plugin that nobody has written contracts for is told which, with what to add.</summary>
[Collection("DmaBufIo contracts")]
public sealed class ComplianceTests
{
    [Fact]
    public void A_plugin_without_its_contracts_is_told_what_to_add()
    {
        var failure = Assert.ThrowsAny<Exception>(static () => new Uncovered().Every_contract_that_is_meant_for_the_plugin_is_derived());
        foreach (string contract in new[] { nameof(PluginContract), nameof(ImporterContract) })
            Assert.Contains($": {contract}(new FaultyFunction{contract.Replace("Contract", "Fixture", StringComparison.Ordinal)}());", failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(": PciFunctionContract(", failure.Message, StringComparison.Ordinal);
        Assert.Contains("docs/contracts/plugin.md", failure.Message, StringComparison.Ordinal);
    }

    // The function of this plugin is covered by contracts of this assembly, the plugin as such and its driver as an importer are not.
    private sealed class Uncovered() : ComplianceContract(new ByFolder("DmaBufIo.Fixtures.FaultyFunction"));
}
