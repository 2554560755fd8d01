using System.Runtime.CompilerServices;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <content>Unloading (L3), and no exceptions where nobody can be told (L4).</content>
public abstract partial class PluginContract
{
    /// <summary>Opened, used, closed, unloaded: the garbage collector takes the load context. Then it is loaded again, and works again.</summary>
    [Fact]
    public virtual void L3_a_plugin_that_was_used_is_collected_when_it_is_unloaded_and_loads_again() => InWorld(world =>
    {
        SkipUnless(Fixture.PluginFolder is not null, "The fixture builds the plugin in: it cannot be unloaded.");
        string name = world.Plugin!.Name;
        IReadOnlyList<string> right = Right(world);
        for (int round = 0; round < 2; round++)
        {
            foreach (string expression in right)
                Use(world, expression);
            UnloadedPlugin unloaded = Unload(world, name);

            // A thread that was told to end may take its time.
            world.Eventually(
                () =>
                {
                    GC.Collect();
                    GC.WaitForPendingFinalizers();
                    return unloaded.IsCollected;
                },
                "L3",
                "it was unloaded, and its load context was not collected: a static, an event of the host, a thread or a timer still holds an object of it.");
            PluginStatus status = world.Host.Plugins.Load(Fixture.PluginFolder!);
            world.Check(status.State == PluginState.Loaded, "L3", $"it was unloaded, and could not be loaded again: {status.Reason}");
        }

        foreach (string expression in right)
            Use(world, expression);
    });

    /// <summary>Nothing is thrown from callbacks while its devices and buffers are used (the world hears of all that is).</summary>
    [Fact]
    public virtual void L4_nothing_is_thrown_from_its_callbacks() => InWorld(world =>
    {
        foreach (string expression in Right(world))
            Use(world, expression);
    });

    /// <summary>Looking at a device that belongs to nobody finds nothing, and throws nothing.</summary>
    [Fact]
    public virtual void L4_it_looks_at_a_stranger_device_and_finds_nothing() => InWorld(world =>
    {
        DeviceExpression stranger = world.Host.Parse("puppet:stranger,size=4M");
        IReadOnlyList<DeviceMark> marks = world.Expect("L4", "When it looked at a device of zeros,", () => world.Host.MarksOn(stranger));
        world.Check(marks.Count == 0, "L4", $"a device of zeros is said to be {string.Join(", ", marks.Select(static m => m.Description))}.");
    });

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static UnloadedPlugin Unload(ContractWorld world, string name) => world.Host.Plugins.Unload(name);

    private void Use(ContractWorld world, string expression)
    {
        try
        {
            PluginUseOf.OpenUseAndClose(world, Fixture, expression);
        }
        catch (Exception e) when (e is not BrokenRuleException and not OutOfMemoryException)
        {
            // As text: the exception would keep the plugin's types.
            throw world.Broken("L4", $"when '{expression}' was used, it threw {e.GetType().Name}: {e.Message}");
        }
    }
}
