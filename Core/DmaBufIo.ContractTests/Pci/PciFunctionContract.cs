using DmaBufIo.Pci;

namespace DmaBufIo.ContractTests;

/// <summary>
/// The contract of a PCI function, of a device model in particular. Derive it once per word that makes functions, with a fixture that names an expression and makes the function do a DMA.
/// Facts are virtual: an author may add to one, and says so where one is left out.
/// </summary>
/// <param name="fixture">Names the function.</param>
public abstract partial class PciFunctionContract(IPciFunctionFixture fixture) : Contract(new FixtureWith<FunctionCatcher>(fixture))
{
    private protected IPciFunctionFixture Fixture { get; } = fixture;

    private bool Can(PciFunctionCapabilities capability) => (Fixture.Capabilities & capability) == capability;

    private void SkipUnless(PciFunctionCapabilities capability) =>
        SkipUnless(Can(capability), $"The fixture does not list the capability {capability} of its function.");

    /// <summary>Runs a fact with a function that no driver has.</summary>
    private void OnStage(Action<PciFunctionStage> fact, bool expectFaults = false) => RunOnStage(
        world =>
        {
            if (expectFaults)
                world.ExpectFaults();
            return new PciFunctionStage(world, Fixture, ((FixtureWith<FunctionCatcher>)Plugin).BuiltIn);
        },
        fact);

    private static T Unharmed<T>(PciFunctionStage stage, string rule, string doing, Func<T> act) => stage.World.Expect(rule, doing, act);

    private static void Unharmed(PciFunctionStage stage, string rule, string doing, Action act) => stage.World.Expect(rule, doing, () =>
    {
        act();
        return true;
    });

    private static (string, PciIdentity, int, object, string) WhatItIs(PciFunction function) => (
        function.Name,
        function.Identity,
        function.InterruptVectors,
        function.AddressSpace,
        string.Join(",", Enumerable.Range(0, 6).Select(function.BarLength)));
}
