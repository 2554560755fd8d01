using System.Diagnostics;
using System.Globalization;
using FsCheck;
using FsCheck.Fluent;
using Microsoft.FSharp.Core;

namespace DmaBufIo.ContractTests;

/// <summary>
/// Runs generated sequences of steps, and when one breaks a rule looks for a shorter one that does. The seed is printed, and taken again from the environment's DMABUFIO_CONTRACT_SEED.
/// </summary>
internal static class Generated
{
    private const string Variable = "DMABUFIO_CONTRACT_SEED";

    /// <summary>Runs sequences.</summary>
    /// <typeparam name="T">A step; its text is how messages tell it.</typeparam>
    /// <param name="world">Where a broken rule is told.</param>
    /// <param name="rule">What is broken when a sequence throws anything but a <see cref="BrokenRuleException"/>.</param>
    /// <param name="steps">Makes a step.</param>
    /// <param name="count">How many sequences.</param>
    /// <param name="length">The longest of them.</param>
    /// <param name="run">Runs one from a state that does not depend on those before.</param>
    /// <param name="canGoOn">False when what was run last has left a state from which nothing can be run: nothing shorter is looked for. Null: something always can.</param>
    internal static void Run<T>(ContractWorld world, string rule, Gen<T> steps, int count, int length, Action<T[]> run, Func<bool>? canGoOn = null)
    {
        ulong seed = ulong.TryParse(Environment.GetEnvironmentVariable(Variable), NumberStyles.None, CultureInfo.InvariantCulture, out ulong given) ? given : (ulong)System.Random.Shared.NextInt64();
        TestContext.Current.TestOutputHelper?.WriteLine($"{Variable}={seed}");
        (T[] Steps, Exception Found)? last = null;
        bool isOver = false;
        void RunOne(T[] sequence)
        {
            if (isOver)
                return;
            long started = Stopwatch.GetTimestamp();
            try
            {
                run(sequence);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // A sequence that is tried now is a shorter one of the last that failed. One that was given up after a wait is short enough: each further one would cost the wait again.
                last = (sequence, e);
                isOver = Stopwatch.GetElapsedTime(started) > Hang.Limit || canGoOn?.Invoke() == false;
                throw;
            }
        }

        Gen<T[]> sequences = Gen.Choose(1, length).SelectMany(n => steps.ArrayOf(n));
        Config config = Config.QuickThrowOnFailure.WithMaxTest(count).WithQuietOnSuccess(true).WithReplay(FSharpOption<Replay>.Some(new Replay(new Rnd(seed), FSharpOption<int>.None)));
        try
        {
            Check.One(config, Prop.ForAll(Arb.ToArbitrary(sequences, Shorter), new Action<T[]>(RunOne)));
        }
        catch (Exception e) when (last is not null)
        {
            (T[] sequence, Exception found) = last.Value;
            var broken = found as BrokenRuleException;
            string did = broken?.Did ?? $"{found.GetType().Name}: {found.Message}";
            string shortest = sequence.Length == 0 ? "an empty one; what comes before and after every sequence is enough" : string.Join(", ", sequence);
            throw world.Broken(broken?.Rule ?? rule, $"{did} The shortest sequence found that shows it: {shortest}.", e, $"{Variable}={seed}");
        }
    }

    /// <summary>Sequences without some of the steps: without a half, a quarter, ... a single one.</summary>
    private static IEnumerable<T[]> Shorter<T>(T[] steps)
    {
        for (int part = steps.Length / 2; part >= 1; part /= 2)
        {
            for (int from = 0; from < steps.Length; from += part)
                yield return [.. steps.Take(from), .. steps.Skip(from + part)];
        }
    }
}
