using DmaBufIo.Files;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <summary>
/// The contract of file operations: a file that hands its requests, and the maps that they carry, to the devices on which it stands. Derive it once per kind of file that the plugin opens, with a fixture
/// that opens one. Facts are virtual: an author may add to one, and says so where one is left out.
/// </summary>
/// <param name="fixture">Opens the file.</param>
public abstract partial class FileContract(IFileFixture fixture) : Contract(new FixtureWith<PuppetDevicesPlugin>(fixture))
{
    private protected IFileFixture Fixture { get; } = fixture;

    private protected override string? Page => "file";

    private bool Can(FileCapabilities capability) => (Fixture.Capabilities & capability) == capability;

    private void SkipUnless(FileCapabilities capability) =>
        SkipUnless(Can(capability), $"The fixture does not list the capability {capability} of its file.");

    /// <summary>Runs a fact with a file, a ring and a buffer.</summary>
    private void OnStage(Action<FileStage> fact, FileCapabilities needs = FileCapabilities.None)
    {
        SkipUnless(needs);
        RunOnStage(world => new FileStage(world, Fixture, ((FixtureWith<PuppetDevicesPlugin>)Plugin).BuiltIn, OpenFlags.Direct), fact);
    }
}
