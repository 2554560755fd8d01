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

    /// <summary>Whether it is a contract over the same plugin.</summary>
    internal bool IsFor(IPluginFixture fixture) => Plugin.PluginFolder is { } folder && folder == fixture.PluginFolder;

    /// <summary>Runs a fact in a world of its own, and looks at what it leaves behind.</summary>
    /// <param name="fact">The fact.</param>
    /// <param name="iommu">How the modelled IOMMU behaves; null for a strict one.</param>
    /// <param name="code">How the plugin's code is loaded.</param>
    private protected void InWorld(Action<ContractWorld> fact, ModelIommuOptions? iommu = null, PluginCode code = PluginCode.AsWritten)
    {
        var world = new ContractWorld(Plugin, RunningFact.Of(GetType()), iommu, code) { Page = Page };
        try
        {
            fact(world);
            world.CloseAndCheck();
        }
        catch (Exception e) when (IsTheDrivers(e) && RuleOfFact() is { } rule)
        {
            world.GiveUp();
            throw world.Broken(rule, $"{e.GetType().Name} came out of the fact: {e.Message}", e);
        }
        catch
        {
            world.GiveUp();
            throw;
        }

        world.Dispose();
    }

    // A bare exception tells an author nothing about rules. What a fixture does not offer, skips, and assertions of an author's own stay what they are.
    private static bool IsTheDrivers(Exception e) =>
        e is not (BrokenRuleException or NotSupportedException or NotImplementedException or OutOfMemoryException) && e.GetType().Namespace?.StartsWith("Xunit", StringComparison.Ordinal) != true;

    /// <summary>The rule that the name of the running fact begins with; null when it cites none.</summary>
    private static string? RuleOfFact() =>
        TestContext.Current.TestMethod?.MethodName.Split('_')[0] is { } rule && RuleBook.All.Contains(rule) ? rule : null;

    /// <summary>Runs a fact on a stage, in a world of its own; the stage is closed before the world looks for what is left.</summary>
    /// <typeparam name="TStage">The contract's stage.</typeparam>
    /// <param name="open">Makes the stage.</param>
    /// <param name="fact">The fact.</param>
    /// <param name="iommu">How the modelled IOMMU behaves; null for a strict one.</param>
    /// <param name="code">How the plugin's code is loaded.</param>
    private protected void RunOnStage<TStage>(Func<ContractWorld, TStage> open, Action<TStage> fact, ModelIommuOptions? iommu = null, PluginCode code = PluginCode.AsWritten)
        where TStage : class, IStage => InWorld(
        world =>
        {
            // On an actor of its own: a plugin may hang in a call that the fact makes.
            TStage? stage = null;
            IActor running = world.Actors.Start("fact", () => fact(stage = open(world)));
            if (!world.UntilEnded(running, 4 * Hang.Limit))
                throw world.Broken("N8", $"the fact did not come to its end: something that the plugin was asked for does not return.{Environment.NewLine}{Hang.State()}");
            running.Join();
            world.Ends("closing", stage!.Close, "T10", "closing what the fact has opened did not come to its end.");
        },
        iommu,
        code);

    /// <summary>Bytes that are the same for the same seed.</summary>
    private protected static byte[] Bytes(int seed, int length)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    /// <summary>The page of the contract, for messages; null for that of the rule.</summary>
    private protected virtual string? Page => null;

    /// <summary>Skips the fact: a feature that is not there is neither right nor wrong.</summary>
    /// <param name="holds">True when it is there.</param>
    /// <param name="reason">What is not there, as a sentence.</param>
    private protected static void SkipUnless(bool holds, string reason) => Assert.SkipUnless(holds, reason);
}
