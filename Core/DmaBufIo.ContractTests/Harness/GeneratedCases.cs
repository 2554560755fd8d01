using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.ContractTests;

/// <summary>A step of a generated case: four numbers whose meaning is the model's.</summary>
/// <param name="Kind">What is done, from 0 to 99.</param>
/// <param name="Place">Where, from 0 to 99,999.</param>
/// <param name="Length">How much, from 0 to 999.</param>
/// <param name="Memory">In which memory, from 0 to 9,999.</param>
public readonly record struct GeneratedStep(int Kind, int Place, int Length, int Memory);

/// <summary>Generated cases. A failure is told with the seed and the shortest case that still fails.</summary>
internal static class GeneratedCases
{
    /// <summary>Runs random lists of steps; what breaks a rule in one is told as it is, with the case.</summary>
    /// <param name="world">For the message.</param>
    /// <param name="rule">The rule that is broken by anything but a <see cref="BrokenRuleException"/>.</param>
    /// <param name="cases">How many lists.</param>
    /// <param name="length">How long the longest is.</param>
    /// <param name="run">Runs one list from the start.</param>
    internal static void Check(ContractWorld world, string rule, int cases, int length, Action<GeneratedStep[]> run)
    {
        Gen<GeneratedStep> step =
            from kind in Gen.Choose(0, 99)
            from place in Gen.Choose(0, 99_999)
            from size in Gen.Choose(0, 999)
            from memory in Gen.Choose(0, 9_999)
            select new GeneratedStep(kind, place, size, memory);

        // A shorter list is a case too, so that a failure shrinks.
        Arbitrary<GeneratedStep[]> lists = Arb.From(
            Gen.Choose(1, length).SelectMany(n => step.ArrayOf(n)),
            static failing => Enumerable.Range(0, failing.Length).Select(gone => failing.Where((_, i) => i != gone).ToArray()));
        BrokenRuleException? broken = null;
        try
        {
            FsCheck.Check.One(Config.QuickThrowOnFailure.WithMaxTest(cases), Prop.ForAll(lists, steps =>
            {
                try
                {
                    run(steps);
                }
                catch (BrokenRuleException e)
                {
                    broken = e; // of the failing cases the last one is the shortest
                    throw;
                }
            }));
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            throw world.Broken(broken?.Rule ?? rule, $"{broken?.Did ?? e.GetType().Name}{Environment.NewLine}Found by a generated case: {e.Message}", e);
        }
    }
}
