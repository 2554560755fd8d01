using System.Text.RegularExpressions;

namespace DmaBufIo.HotPath.Tests;

/// <summary>
/// A stretch of instructions between two labels. Others may be jumped to from its middle, it is entered at its start only.
/// </summary>
internal sealed record JitBlock(string Label, List<string> Instructions);

/// <summary>One compilation of one method, as the compiler's listing shows it.</summary>
/// <param name="Name">Type, method and signature in the compiler's notation.</param>
/// <param name="Tier">"Tier0", "Instrumented Tier0", "Tier1", "Tier1-OSR", …</param>
internal sealed partial record JitBody(string Name, string Tier)
{
    internal List<JitBlock> Blocks { get; } = [];

    /// <summary>True for code that stays: compiled after the method was called often, or optimised from the start.</summary>
    internal bool IsFinal => Tier == "Tier1" || Tier.EndsWith("FullOpts", StringComparison.Ordinal);

    /// <summary>How many ends of a method were read: one, if all its lines are its own.</summary>
    internal int Ends { get; set; }

    /// <summary>
    /// True when the lines are one method's: one end, labels numbered from 1 without a gap, and every jump leads to one of them.
    /// </summary>
    internal bool IsWhole =>
        Ends == 1
        && Blocks.Select(static (b, i) => b.Label.EndsWith($"_IG{i + 1:00}", StringComparison.Ordinal)).All(static ok => ok)
        && Blocks.SelectMany(Targets).All(t => Blocks.Exists(b => b.Label == t));

    internal MethodKey Key { get; } = MethodKey.Parse(Name);

    /// <summary>
    /// Blocks that a request can pass: those that are reached from the entry, without those from which every way ends in a throw. What is
    /// left out are throws, and handlers of exceptions (nothing but a throw leads there; a handler that runs without one is called by its
    /// label).
    /// </summary>
    internal IEnumerable<JitBlock> Passed()
    {
        // Jumps through a table name no label: then nothing can be told about what is reached.
        bool tables = Blocks.Any(static b => b.Instructions.Any(static i => RegisterJump().IsMatch(i)));
        HashSet<string> reached = tables ? [.. Blocks.Select(static b => b.Label)] : Reached();
        HashSet<string> throwing = Throwing();
        return Blocks.Where(b => reached.Contains(b.Label) && !throwing.Contains(b.Label));
    }

    private HashSet<string> Reached()
    {
        var reached = new HashSet<string>();
        var open = new Stack<int>([0]);
        while (open.TryPop(out int index))
        {
            if (index >= Blocks.Count || !reached.Add(Blocks[index].Label))
                continue;
            foreach (string target in Targets(Blocks[index]))
                open.Push(Blocks.FindIndex(b => b.Label == target));
            if (!EndsElsewhere(Blocks[index]))
                open.Push(index + 1);
        }

        return reached;
    }

    private HashSet<string> Throwing()
    {
        var throwing = new HashSet<string>();
        bool changed = true;
        while (changed)
        {
            changed = false;
            for (int i = Blocks.Count - 1; i >= 0; i--)
            {
                JitBlock block = Blocks[i];
                string last = block.Instructions.LastOrDefault("");
                bool ends = last.StartsWith("int3", StringComparison.Ordinal)
                    || (last.StartsWith("jmp", StringComparison.Ordinal) && Targets(block).Any())
                    || (!EndsElsewhere(block) && i + 1 < Blocks.Count && throwing.Contains(Blocks[i + 1].Label));
                if (ends && Targets(block).All(throwing.Contains))
                    changed |= throwing.Add(block.Label);
            }
        }

        return throwing;
    }

    private static IEnumerable<string> Targets(JitBlock block) =>
        block.Instructions.Where(static i => i[0] == 'j' || i.StartsWith("call", StringComparison.Ordinal))
            .SelectMany(static i => LabelUse().Matches(i)).Select(static m => m.Value);

    private static bool EndsElsewhere(JitBlock block) =>
        block.Instructions.LastOrDefault() is { } last && Leaving().IsMatch(last);

    [GeneratedRegex(@"G_M\d+_IG\d+")]
    private static partial Regex LabelUse();

    [GeneratedRegex(@"^(jmp|ret|int3|tail\.jmp|rex\.jmp)\b")]
    private static partial Regex Leaving();

    [GeneratedRegex(@"^jmp\s+r\w+$")]
    private static partial Regex RegisterJump();
}
