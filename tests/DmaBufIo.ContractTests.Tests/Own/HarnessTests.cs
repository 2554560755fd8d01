using DmaBufIo.Memory;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>What contracts say, and what they survive.</summary>
[Collection("DmaBufIo contracts")]
public sealed class HarnessTests
{
    [Fact]
    public void F7_memory_of_an_earlier_fact_that_is_written_to_is_told_with_the_name_of_that_fact()
    {
        var keeping = new KeepingFixture();
        new KeepingTests(keeping).N8_every_request_ends_once();
        keeping.Kept!.Span(100, 1)[0] = 1;
        var broken = Assert.Throws<BrokenRuleException>(new RamDiskImporterTests().N8_every_request_ends_once);
        Assert.Equal("F7", broken.Rule);
        Assert.Contains($"{nameof(KeepingTests)}.", broken.Message, StringComparison.Ordinal);

        // Told once: what comes after it is not red for it.
        new RamDiskImporterTests().N8_every_request_ends_once();
    }

    [Fact]
    public void A_message_names_the_project_that_repeats_the_fact()
    {
        var broken = Assert.Throws<BrokenRuleException>(new FaultyTests().N8_every_request_ends_once);
        Assert.Matches(@"How to repeat it: dotnet test \S*DmaBufIo\.ContractTests\.Tests\.csproj --filter ""FullyQualifiedName~FaultyTests\.", broken.Message);
    }

    [Fact]
    public void A_broken_rule_comes_with_what_else_was_seen()
    {
        var broken = Assert.Throws<BrokenRuleException>(new FaultyTests().N8_every_request_ends_once);
        Assert.Equal("N8", broken.Rule);
        Assert.Contains("What else was seen: the end of a bio threw", broken.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_capability_that_the_device_does_not_have_is_told_as_the_fixtures_mistake()
    {
        var mistake = Assert.Throws<NotSupportedException>(new BoastingTests().T11_a_reset_kills_the_maps);
        Assert.Contains("The fixture lists the capability Reset", mistake.Message, StringComparison.Ordinal);
    }

    // A memory region of a buffer of the fact, as a thread of a driver might still have it.
    private sealed class KeepingFixture : IImporterFixture
    {
        private readonly RamDiskFixture _disk = new();

        internal MemoryRegion? Kept { get; private set; }

        public string? PluginFolder => _disk.PluginFolder;

        public ImporterCapabilities Capabilities => _disk.Capabilities;

        public ImporterTarget Open(ContractWorld world)
        {
            Kept = world.CreateBuffer("kept", 8192).Describe().Ranges[0].Region;
            return _disk.Open(world);
        }
    }

    private sealed class BoastingFixture : IImporterFixture
    {
        private readonly RamDiskFixture _disk = new();

        public string? PluginFolder => _disk.PluginFolder;

        public ImporterCapabilities Capabilities => _disk.Capabilities | ImporterCapabilities.Reset;

        public ImporterTarget Open(ContractWorld world) => _disk.Open(world);
    }

    // Not test classes of their own: the tests above run their facts.
#pragma warning disable xUnit1000
    private sealed class KeepingTests(IImporterFixture fixture) : ImporterContract(fixture);

    private sealed class BoastingTests() : ImporterContract(new BoastingFixture());

    private sealed class FaultyTests() : ImporterContract(new Mutants.FaultyImporterFixture("ends every bio twice"));
#pragma warning restore xUnit1000
}
