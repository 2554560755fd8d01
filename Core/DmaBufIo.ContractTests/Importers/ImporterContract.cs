using DmaBufIo.Models.Iommu;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>
/// The contract of an importer: a driver whose files take registered buffers. Derive it once per kind of device that the plugin makes, with a fixture that opens one. Facts are virtual: an
/// author may add to one, and says so where one is left out.
/// </summary>
/// <param name="fixture">Opens the device.</param>
public abstract partial class ImporterContract(IImporterFixture fixture) : Contract(fixture)
{
    private static readonly bool[] s_both = [true, false];

    private protected override string? Page => "importer";

    private protected IImporterFixture Fixture { get; } = fixture;

    private bool Can(ImporterCapabilities capability) => (Fixture.Capabilities & capability) == capability;

    private void SkipUnless(ImporterCapabilities capability) =>
        SkipUnless(Can(capability), $"The fixture does not list the capability {capability & ~Fixture.Capabilities} of its device.");

    /// <summary>Runs a fact with a device, a ring and a buffer of these pieces.</summary>
    private void OnStage(Action<ImporterStage> fact, params long[] pieces) => OnStage(pieces.Length == 0 ? new StageSetup() : new StageSetup { Pieces = pieces }, fact);

    /// <summary>Runs a fact with a device, a ring and a buffer.</summary>
    private void OnStage(StageSetup setup, Action<ImporterStage> fact, ModelIommuOptions? iommu = null, PluginCode code = PluginCode.AsWritten, string situation = "") => RunOnStage(
        world =>
        {
            world.Situation = situation;
            return new ImporterStage(world, Fixture, setup);
        },
        fact,
        iommu,
        code);

    /// <summary>Runs a fact once for each design of invalidation, each time in a world of its own.</summary>
    private void InBothDesigns(Action<ImporterStage> fact, params long[] pieces)
    {
        foreach (InvalidationDesign design in new[] { InvalidationDesign.Draining, InvalidationDesign.Fenced })
        {
            StageSetup setup = new() { Design = design };
            OnStage(pieces.Length == 0 ? setup : setup with { Pieces = pieces }, fact, situation: $"the {design.ToString().ToLowerInvariant()} design of invalidation");
        }
    }

    /// <summary>Runs a fact in both designs, with the owner of the memory on the ring's own thread and on another.</summary>
    private void WhoeverMoves(Action<ImporterStage, bool> fact)
    {
        InBothDesigns(stage =>
        {
            string design = stage.World.Situation;
            foreach (bool elsewhere in s_both)
            {
                stage.World.Situation = $"{design}, moved by {(elsewhere ? "another thread" : "the ring's own thread")}";
                fact(stage, elsewhere);
            }
        });
    }
}
