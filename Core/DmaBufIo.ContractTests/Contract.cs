using DmaBufIo.Models.Iommu;

namespace DmaBufIo.ContractTests;

/// <summary>
/// What all contracts share. A contract is a class of facts that an author derives once per plugin and kind, with a fixture that knows how to open the plugin's devices. Facts run one after
/// another: some of them measure.
/// </summary>
[Collection(CollectionName)]
public abstract class Contract
{
    /// <summary>The one collection of all contracts, so that they do not run beside each other.</summary>
    internal const string CollectionName = "DmaBufIo contracts";

    private protected Contract(IPluginFixture fixture) => Plugin = fixture;

    private protected IPluginFixture Plugin { get; }

    /// <summary>Runs a fact in a world of its own, and looks at what it leaves behind.</summary>
    /// <param name="fact">The fact.</param>
    /// <param name="iommu">How the modelled IOMMU behaves; null for a strict one.</param>
    private protected void InWorld(Action<ContractWorld> fact, ModelIommuOptions? iommu = null)
    {
        var world = new ContractWorld(Plugin, Repeat(), iommu) { Page = Page };
        try
        {
            fact(world);
            world.CloseAndCheck();
        }
        catch
        {
            Abandon(world);
            throw;
        }

        world.Dispose();
    }

    /// <summary>The page of the contract, for messages; null for that of the rule.</summary>
    private protected virtual string? Page => null;

    /// <summary>Skips the fact: a feature that is not there is neither right nor wrong.</summary>
    /// <param name="holds">True when it is there.</param>
    /// <param name="reason">What is not there, as a sentence.</param>
    private protected static void SkipUnless(bool holds, string reason) => Assert.SkipUnless(holds, reason);

    // The fact has found something: what closing finds after that follows from it, and must not take its place. On a thread of its own, because what is stuck may stay so; it keeps what it uses.
    private static void Abandon(ContractWorld world)
    {
        var closing = new Thread(() =>
        {
            if (world.WaitForActors())
                Record.Exception(world.Dispose);
        })
        {
            Name = "closing",
            IsBackground = true,
        };
        closing.Start();
        closing.Join(Hang.Limit);
    }

    private string Repeat()
    {
        string test = TestContext.Current.TestMethod?.MethodName ?? "the fact's name";
        return $"dotnet test --filter \"FullyQualifiedName~{GetType().Name}.{test}\"";
    }
}
