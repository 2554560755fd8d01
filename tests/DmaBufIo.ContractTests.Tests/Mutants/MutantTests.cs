using System.Reflection;
using System.Text;

namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>The contracts bite: each faulty driver is found by the fact that is meant for its rule, and says so; the same driver without a fault is not.</summary>
[Collection("DmaBufIo contracts")]
public sealed class MutantTests
{
    private static IEnumerable<Mutant> All => [.. ImporterMutants.All, .. ExporterMutants.All, .. FileMutants.All, .. BlockDeviceMutants.All, .. PciFunctionMutants.All, .. PluginMutants.All];

    public static TheoryData<string> Names => [.. All.Select(static m => m.ToString())];

    public static TheoryData<string, string> Facts => [.. All.Select(static m => (m.Contract.Name, m.Fact)).Distinct()];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_faulty_driver_is_found_by_the_fact_that_is_meant_for_its_rule(string name)
    {
        Mutant mutant = All.Single(m => m.ToString() == name);
        Exception? found = Run(mutant, mutant.Fault);
        Assert.True(found is not null, $"{mutant.Fact} passes although the driver {mutant.Does}.");
        var broken = Assert.IsType<BrokenRuleException>(found);
        Assert.Equal(mutant.Rule, broken.Rule);
        Assert.All(
            ["What the driver did:", "Why it matters:", "How to repeat it:", "Where to read:"],
            part => Assert.Contains(part, broken.Message, StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Facts))]
    public void The_same_driver_without_a_fault_passes_the_fact(string contract, string fact)
    {
        Mutant mutant = All.First(m => m.Contract.Name == contract && m.Fact == fact);
        Exception? found = Run(mutant, null);
        Assert.True(found is null, $"{found}");
    }

    [Fact]
    public void Every_rule_that_a_plugin_can_break_has_at_least_two_faulty_drivers()
    {
        string[] few = [.. RuleNames.All.Where(static rule => All.Count(m => m.Rule == rule) < 2)];
        Assert.Empty(few);
    }

    [Fact]
    public void The_table_in_the_documentation_is_the_one_that_is_tested()
    {
        var table = new StringBuilder();
        table.Append("| rule | a driver that | is found by |\n|---|---|---|\n");
        foreach (Mutant mutant in All.OrderBy(static m => m.Rule, StringComparer.Ordinal).ThenBy(static m => m.Fault, StringComparer.Ordinal))
            table.Append($"| {mutant.Rule} | {mutant.Does} | `{mutant.Contract.Name}.{mutant.Fact}` |\n");
        string path = Path.Combine(AppContext.BaseDirectory, "docs", "contracts", "mutants.md");
        string page = File.Exists(path) ? File.ReadAllText(path) : "";
        Assert.True(page.EndsWith($"\n\n{table}", StringComparison.Ordinal), $"docs/contracts/mutants.md does not end with the table of the mutants. It should be:\n{table}");
    }

    private static Exception? Run(Mutant mutant, string? fault)
    {
        MethodInfo fact = mutant.Contract.GetMethod(mutant.Fact) ?? throw new MissingMethodException(mutant.Contract.Name, mutant.Fact);
        Contract contract = mutant.Make(fault);

        // A driver that is stuck by its fault is given up soon; one that should pass has all the time that an author's has.
        AppContext.SetData("DmaBufIo.ContractTests.Limit", fault is null ? null : TimeSpan.FromSeconds(2));
        try
        {
            fact.Invoke(contract, null);
            return null;
        }
        catch (TargetInvocationException e)
        {
            return e.InnerException;
        }
        finally
        {
            AppContext.SetData("DmaBufIo.ContractTests.Limit", null);
        }
    }
}
