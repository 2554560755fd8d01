using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.ContractTests;

/// <summary>Runs random sequences of steps, shrinks one that fails, and tells its seed.</summary>
internal static class RandomSteps
{
    /// <summary>Runs sequences until one breaks a rule.</summary>
    /// <param name="world">Says how to repeat it.</param>
    /// <param name="cases">How many sequences.</param>
    /// <param name="length">Steps of each.</param>
    /// <param name="run">Does the steps, each a number, from the beginning; a shorter list is a sequence, too.</param>
    /// <exception cref="BrokenRuleException">The rule that the shortest failing sequence breaks; the message has the seed and the steps.</exception>
    internal static void Run(ContractWorld world, int cases, int length, Action<int[]> run)
    {
        // The last sequence that failed is the shortest: shrinking goes on from what failed.
        BrokenRuleException? shortest = null;
        Arbitrary<int[]> steps = Arb.From(
            Gen.Choose(0, int.MaxValue).ArrayOf(length),
            static failing => Enumerable.Range(0, failing.Length).Select(gone => failing.Where((_, i) => i != gone).ToArray()));
        Property property = Prop.ForAll(steps, numbers =>
        {
            try
            {
                run(numbers);
            }
            catch (BrokenRuleException e)
            {
                shortest = e;
                throw;
            }
        });
        try
        {
            Check.One(Config.QuickThrowOnFailure.WithMaxTest(cases), property);
        }
        catch (Exception e) when (shortest is not null)
        {
            string report = e.Message.Split("with exception", 2)[0];
            throw world.Broken(shortest.Rule, $"{shortest.Did} Found by random steps: {report}", shortest);
        }
    }
}
