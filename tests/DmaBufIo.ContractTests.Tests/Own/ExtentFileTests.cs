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

public sealed class ExtentFileOnOneDeviceTests() : FileContract(new ExtentFileFixture("puppet:a,max=32K", FileCapabilities.Storage));

[Trait("Duration", "Minutes")]
public sealed class ExtentFileOnTwoDevicesTests() : FileContract(new ExtentFileFixture("puppet:a,size=512K,max=8K,puppet:b,size=512K,max=32K", FileCapabilities.Storage));

public sealed class ExtentFileOnAMirrorTests() : FileContract(
    new ExtentFileFixture("raid1(puppet:a,max=32K,puppet:b,max=32K)", FileCapabilities.KeepsData | FileCapabilities.Vectors | FileCapabilities.ReadOnly, "640K"));
