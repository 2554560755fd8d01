namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>Faulty importers.</summary>
internal static class ImporterMutants
{
    internal static IEnumerable<Mutant> All => [];
}
