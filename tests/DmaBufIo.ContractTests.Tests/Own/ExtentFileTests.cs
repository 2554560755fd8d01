using DmaBufIo.Files;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>A file in extents.</summary>
internal sealed class ExtentFileFixture(string devices, FileCapabilities capabilities, string size = "700K") : IFileFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Importers.ExtentFile");

    public IReadOnlyList<string> OtherPluginFolders => [PluginFolders.Of("DmaBufIo.Importers.StackedRaid")];

    public FileCapabilities Capabilities => capabilities;

    public ImporterTarget Open(ContractWorld world, OpenFlags flags) => new FileTarget(world, $"extent:data,size={size}@({devices})", flags);
}

public sealed class ExtentFileOnOneDeviceTests() : FileContract(new ExtentFileFixture("puppet:1M", FileCapabilities.Storage));

public sealed class ExtentFileOnTwoDevicesTests() : FileContract(new ExtentFileFixture("puppet:512K,max=8K,puppet:512K", FileCapabilities.Storage));

public sealed class ExtentFileOnAMirrorTests() : FileContract(
    new ExtentFileFixture("raid1(puppet:1M,puppet:1M)", FileCapabilities.Addressable | FileCapabilities.Vectors | FileCapabilities.ReadOnly, "640K"));
