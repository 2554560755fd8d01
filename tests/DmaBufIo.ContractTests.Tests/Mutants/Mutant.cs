namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>A driver with one fault, and the fact that is meant to find it.</summary>
/// <param name="Rule">The rule that it breaks.</param>
/// <param name="Fault">The fault's name: how the faulty plugin is told to make it (its setting <c>fault</c>).</param>
/// <param name="Does">What the driver does wrong, as a clause, for the table.</param>
/// <param name="Contract">The contract.</param>
/// <param name="Fact">The fact of the contract that finds it, by its method's name.</param>
/// <param name="Make">Makes the contract over the faulty plugin.</param>
public sealed record Mutant(string Rule, string Fault, string Does, Type Contract, string Fact, Func<string?, Contract> Make)
{
    public override string ToString() => $"{Rule} {Fault}, {Contract.Name}";
}
