namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>The rules that a plugin can break, from the contracts' own book; those that the types of Core keep are named with their reason.</summary>
internal static class RuleNames
{
    /// <summary>Rules that no plugin can break: why.</summary>
    private static readonly Dictionary<string, string> s_kept = new(StringComparer.Ordinal)
    {
        ["T3"] = "the three operations are abstract members: leaving one out does not compile",
        ["T4"] = "Core publishes maps, one at a time",
        ["T9"] = "maps are managed objects",
        ["T13"] = "Core's ring compares the token's file with the request's",
        ["R6"] = "the ring keeps registrations",
    };

    internal static IEnumerable<string> All => RuleBook.All.Except(s_kept.Keys);
}
