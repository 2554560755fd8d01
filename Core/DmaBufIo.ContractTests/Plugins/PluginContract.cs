using DmaBufIo.Errors;
using DmaBufIo.Hosting.Topology;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <summary>
/// The contract of a plugin as such: what it says of itself, what it refuses and how, loading and unloading. Derive it once per plugin, with a fixture that names expressions. Facts are
/// virtual: an author may add to one, and says so where one is left out.
/// </summary>
/// <param name="fixture">Names the plugin and its expressions.</param>
public abstract partial class PluginContract(IExpressionFixture fixture) : Contract(new FixtureWith<PuppetDevicesPlugin>(fixture))
{
    private protected IExpressionFixture Fixture { get; } = fixture;

    /// <summary>A right expression as the parser reads it; exporters are words with options.</summary>
    private static DeviceExpression Parse(ContractWorld world, string expression) =>
        world.Host.Plugins.ExporterWords.Contains(expression.Split(':', 2)[0], StringComparer.Ordinal)
            ? new ExpressionParser(world.Host.Plugins.DeviceWords, world.Host.Plugins.ExporterWords).ParseExporter(expression)
            : world.Host.Parse(expression);

    /// <summary>What is right, and something is: nothing can be said of a plugin that is not used.</summary>
    private IReadOnlyList<string> Right(ContractWorld world)
    {
        IReadOnlyList<string> right = Fixture.Right(world);
        Assert.True(right.Count != 0, "The fixture's Right names no expression: add one for each word of the plugin, or what makes a host use it.");
        return right;
    }

    /// <summary>Opens what is right; a rule is broken when it is refused.</summary>
    private void Accepted(ContractWorld world, string expression, string rule)
    {
        try
        {
            PluginUseOf.OpenAndClose(world, Fixture, expression);
        }
        catch (Exception e) when (e is not BrokenRuleException and not OutOfMemoryException)
        {
            throw world.Broken(rule, $"'{expression}' should open, and was refused: {e.Message}", e);
        }
    }

    /// <summary>Opens what is wrong: it is refused with an error that helps, and nothing is left open.</summary>
    /// <param name="world">The host.</param>
    /// <param name="expression">What is wrong.</param>
    /// <param name="why">What is wrong with it, as a clause.</param>
    /// <param name="first">Where the error may point at the earliest.</param>
    /// <param name="last">And at the latest.</param>
    private void Refused(ContractWorld world, string expression, string why, int first = 0, int last = int.MaxValue)
    {
        ProcessProbe before = ProcessProbe.Take();
        int mappings = world.Fabric.Mappings.Count;
        DmaBufIoException? error = null;
        try
        {
            PluginUseOf.OpenAndClose(world, Fixture, expression);
        }
        catch (DmaBufIoException e)
        {
            error = e;
        }
        catch (Exception e) when (e is not BrokenRuleException and not OutOfMemoryException)
        {
            throw world.Broken("L2", $"'{expression}' should be refused by a DmaBufIoException, because {why}, and what came was {e.GetType().Name}: {e.Message}", e);
        }

        if (error is null)
            throw world.Broken("L2", $"'{expression}' was opened, although {why}.");
        world.Check(error.Remedy.Length > 0 && error.Problem.Length > 0, "L2", $"'{expression}' was refused, because {why}, with a message that does not tell what to do: {error.Message}");
        if (error.Errno == Errno.EINVAL)
        {
            int at = Caret(error.Problem);
            world.Check(at >= 0, "L2", $"'{expression}' was refused, because {why}, and the error does not point at the character. Throw what DeviceExpression.Broken makes. The message was: {error.Message}");
            world.Check(at >= first && at <= last, "L2", $"'{expression}' was refused, because {why}, and the error points at character {at + 1}, which is not where that is. The message was: {error.Message}");
        }

        world.Eventually(() => before.LeftDescriptors().Count == 0, "L2", () => $"'{expression}' was refused, and left open {string.Join(", ", before.LeftDescriptors())}.");
        world.Eventually(() => before.LeftThreads().Count == 0, "L2", () => $"'{expression}' was refused, and left threads running: {string.Join(", ", before.LeftThreads())}.");
        world.Check(world.Fabric.Mappings.Count == mappings && world.Host.Devices.Count == 0, "L2", $"'{expression}' was refused, and left mappings or devices.");
    }

    // Errors show the expression and, in the line below it, the character.
    private static int Caret(string problem)
    {
        foreach (string line in problem.Split('\n'))
        {
            if (line.Trim() == "^")
                return line.IndexOf('^', StringComparison.Ordinal) - 2;
        }

        return -1;
    }
}
