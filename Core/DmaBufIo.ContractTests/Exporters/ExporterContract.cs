using DmaBufIo.Memory;

namespace DmaBufIo.ContractTests;

/// <summary>
/// The contract of an exporter: who owns a buffer's memory, maps it for devices, moves it and works on it. Derive it once per kind of buffer that the plugin makes, with a fixture that makes one.
/// Facts are virtual: an author may add to one, and says so where one is left out.
/// </summary>
/// <param name="fixture">Makes the buffers.</param>
public abstract partial class ExporterContract(IExporterFixture fixture) : Contract(fixture)
{
    /// <summary>What most facts work with: several pages, and not a power of two of them.</summary>
    private static readonly int s_size = 37 * MemoryRegion.PageSize;

    private protected IExporterFixture Fixture { get; } = fixture;

    private protected override string? Page => "exporter";

    private bool Can(ExporterCapabilities capability) => (Fixture.Capabilities & capability) == capability;

    private void SkipUnless(ExporterCapabilities capability) =>
        SkipUnless(Can(capability), $"The fixture does not list the capability {capability} of its exporter.");

    /// <summary>Runs a fact with a buffer.</summary>
    private void OnStage(Action<ExporterStage> fact, long? size = null, ExporterCapabilities needs = ExporterCapabilities.None)
    {
        SkipUnless(needs);
        RunOnStage(world => new ExporterStage(world, Fixture, size ?? s_size), fact);
    }
}
