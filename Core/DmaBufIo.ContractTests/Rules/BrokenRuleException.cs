namespace DmaBufIo.ContractTests;

/// <summary>
/// A driver breaks a rule of the protocol. Says which rule and what it says, why it matters, what the driver did, how to see it again, and where to read on.
/// </summary>
/// <remarks>Thrown by contracts; an author reads the message. Any thread.</remarks>
public sealed class BrokenRuleException : Exception
{
    internal BrokenRuleException(string rule, string did, string situation, string repeat, IReadOnlyList<string> seen, Exception? inner = null, string? page = null)
        : base(Describe(rule, situation.Length == 0 ? did : $"{did} (With {situation}.)", repeat, seen, page), inner)
    {
        Rule = rule;
        Did = did;
    }

    /// <summary>The rule's number, for example "T8".</summary>
    public string Rule { get; }

    /// <summary>What the driver did, as a sentence.</summary>
    public string Did { get; }

    private static string Describe(string rule, string did, string repeat, IReadOnlyList<string> seen, string? page)
    {
        RuleText text = RuleBook.Find(rule);
        string also = string.Concat(seen.Select(static s => $"{Environment.NewLine}  What else was seen: {s}"));
        return $"""
            Rule {rule} is broken: {text.Law}.
              What the driver did: {did}{also}
              Why it matters: {text.Why}.
              How to repeat it: {repeat}
              Where to read: docs/rules.md, rule {rule}, and the page of the contract, docs/contracts/{page ?? text.Page}.md
            """;
    }
}
