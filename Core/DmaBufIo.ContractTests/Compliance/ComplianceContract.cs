using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <summary>
/// The contracts of a plugin are all run: for each kind of thing that it registers, the test assembly derives the contract that is meant for it, over this plugin. Derive it once per plugin,
/// in the assembly that holds its contracts.
/// </summary>
/// <param name="fixture">Where the plugin is.</param>
public abstract class ComplianceContract(IPluginFixture fixture) : Contract(fixture)
{
    /// <summary>Which contracts are meant for which service. A network card makes files of its own: its queue pairs open as files, and these take registered buffers.</summary>
    private static readonly (Type Service, Type[] Contracts)[] s_needed =
    [
        (typeof(IPciDriver), [typeof(ImporterContract), typeof(BlockDeviceContract)]),
        (typeof(IBlockDeviceFactory), [typeof(ImporterContract), typeof(BlockDeviceContract)]),
        (typeof(IRdmaDeviceFactory), [typeof(ImporterContract), typeof(FileContract)]),
        (typeof(IFileFactory), [typeof(FileContract)]),
        (typeof(IExporterFactory), [typeof(ExporterContract)]),
        (typeof(IPciFunctionFactory), [typeof(PciFunctionContract)]),
    ];

    /// <summary>Contracts that this plugin does not need, by the names of their classes, each with the reason: a driver for functions that are no storage has no block devices.</summary>
    protected virtual IReadOnlyDictionary<string, string> NotNeeded => new Dictionary<string, string>();

    /// <summary>Every contract that is meant for the plugin is derived.</summary>
    [Fact]
    public virtual void Every_contract_that_is_meant_for_the_plugin_is_derived()
    {
        SkipUnless(Plugin.PluginFolder is not null, "The fixture builds the plugin in: there is no assembly to look into.");
        string[] missing = Missing();
        if (missing.Length != 0)
            Assert.Fail(Describe(missing));
    }

    /// <summary>The contracts that are not derived.</summary>
    private string[] Missing()
    {
        IReadOnlyList<Type> services;
        using (PluginEntry entry = PluginEntry.Load(Plugin))
            services = entry.Register();
        var needed = new List<Type> { typeof(PluginContract) };
        foreach ((Type service, Type[] contracts) in s_needed)
        {
            if (services.Contains(service))
                needed.AddRange(contracts);
        }

        return [.. needed.Distinct().Where(c => !NotNeeded.ContainsKey(c.Name) && !IsDerived(c)).Select(static c => c.Name)];
    }

    private bool IsDerived(Type contract) => GetType().Assembly.GetTypes()
        .Where(t => t is { IsClass: true, IsAbstract: false, IsPublic: true, IsGenericType: false } && t.IsAssignableTo(contract))
        .Any(t => Make(t) is { } made && made.IsFor(Plugin));

    private static Contract? Make(Type type)
    {
        System.Reflection.ConstructorInfo? constructor = type.GetConstructors().SingleOrDefault();
        if (constructor is null || !constructor.GetParameters().All(static p => p.IsOptional))
            return null;
        return (Contract)constructor.Invoke([.. constructor.GetParameters().Select(static p => p.DefaultValue)]);
    }

    private string Describe(string[] missing)
    {
        string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Plugin.PluginFolder!)).Split('.')[^1];
        string code = string.Join(Environment.NewLine, missing.Select(m => $$"""
            public sealed class {{name}}{{m.Replace("Contract", "Tests", StringComparison.Ordinal)}}() : {{m}}(new {{name}}{{m.Replace("Contract", "Fixture", StringComparison.Ordinal)}}());

            internal sealed class {{name}}{{m.Replace("Contract", "Fixture", StringComparison.Ordinal)}} : {{FixtureOf(m)}}
            {
                public string? PluginFolder => PluginFolders.Of("{{Path.GetFileName(Plugin.PluginFolder!)}}");

                // What the interface asks for besides.
            }

            """));
        return $"""
            The plugin in {Plugin.PluginFolder} registers what {string.Join(", ", missing)} {(missing.Length == 1 ? "is" : "are")} meant for, and {GetType().Assembly.GetName().Name} derives no such class over it.
            Add to the test project, beside {GetType().Name}:

            {code}
            Where to read: docs/contracts/plugin.md
            """;
    }

    private static string FixtureOf(string contract) =>
        contract == nameof(PluginContract) ? nameof(IExpressionFixture) : $"I{contract.Replace("Contract", "Fixture", StringComparison.Ordinal)}";
}
