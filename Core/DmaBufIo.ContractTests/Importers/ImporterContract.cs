namespace DmaBufIo.ContractTests;

/// <summary>
/// The contract of an importer: a driver whose files take registered buffers. Derive it once per kind of device that the plugin makes, with a fixture that opens one. Facts are virtual: an
/// author may add to one, and says so where one is left out.
/// </summary>
/// <param name="fixture">Opens the device.</param>
public abstract partial class ImporterContract(IImporterFixture fixture) : Contract(fixture)
{
    private protected IImporterFixture Fixture { get; } = fixture;

    private bool Can(ImporterCapabilities capability) => (Fixture.Capabilities & capability) == capability;

    private void SkipUnless(ImporterCapabilities capability) =>
        SkipUnless(Can(capability), $"The fixture does not list the capability {capability} of its device.");

    /// <summary>Runs a fact with a device, a ring and a buffer; the device and the ring are closed before the world looks for what is left.</summary>
    private void OnStage(Action<ImporterStage> fact, params long[] pieces) => InWorld(world =>
    {
        using var stage = new ImporterStage(world, Fixture, pieces: pieces);
        fact(stage);
    });

    private static byte[] Bytes(int seed, int length)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }
}
