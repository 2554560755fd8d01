using DmaBufIo.Hosting;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <summary>
/// The contract of a block device: what a queue does with bios, on both kinds of backing, under failures, reset and removal. Derive it once per kind of device that the plugin makes, with a
/// fixture that opens one. Facts are virtual: an author may add to one, and says so where one is left out.
/// </summary>
/// <param name="fixture">Opens the device.</param>
public abstract partial class BlockDeviceContract(IBlockDeviceFixture fixture) : Contract(new FixtureWith<PuppetDevicesPlugin>(fixture))
{
    private protected override string? Page => "block-device";

    private protected IBlockDeviceFixture Fixture { get; } = fixture;

    private IReadOnlyDictionary<string, PuppetBlockDevice> Puppets => ((FixtureWith<PuppetDevicesPlugin>)Plugin).BuiltIn.Devices;

    private bool Can(BlockDeviceCapabilities capability) => (Fixture.Capabilities & capability) == capability;

    private void SkipUnless(BlockDeviceCapabilities capability) =>
        SkipUnless(Can(capability), $"The fixture does not list the capability {capability} of its device.");

    private void OnStage(Action<BlockDeviceStage> fact) => OnStage(Fixture.Open, fact);

    /// <summary>Runs a fact with a device.</summary>
    private void OnStage(Func<ContractWorld, OpenedDevice> open, Action<BlockDeviceStage> fact) =>
        RunOnStage(world => new BlockDeviceStage(world, open(world), Can(BlockDeviceCapabilities.Tokens)), fact);
}
