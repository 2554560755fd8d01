using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <content>What a plugin says of itself is so (L1).</content>
public abstract partial class PluginContract
{
    /// <summary>Name, words and options have the form that people can write, and are the same whenever they are asked for.</summary>
    [Fact]
    public virtual void L1_what_it_says_is_well_formed_and_constant() => InWorld(world =>
    {
        SkipUnless(Fixture.PluginFolder is not null, "The fixture builds the plugin in: there is no assembly to load by itself.");
        using PluginEntry entry = PluginEntry.Load(Fixture);
        PluginInfo info = world.Expect("L1", "When Info was asked for", () => entry.Plugin.Info);
        string before = Text(info);
        world.Check(IsWord(info.Name), "L1", $"its name '{info.Name}' is not made of lower-case letters, digits and dashes, beginning with a letter.");
        world.Check(info.Version is not null, "L1", "it has no version.");
        world.Check(info.Description is { Length: > 0 } && !info.Description.Contains('\n', StringComparison.Ordinal), "L1", "its description is not one line.");
        foreach (string word in info.Words)
            world.Check(IsWord(word), "L1", $"its word '{word}' is not made of lower-case letters, digits and dashes, beginning with a letter.");
        world.Check(info.Words.Distinct().Count() == info.Words.Count, "L1", $"it names a word twice: {string.Join(", ", info.Words)}.");
        foreach (PluginOption option in info.Options)
        {
            // What follows a word's colon is listed as WORD:TEXT.
            bool isText = option.Name.Split(':') is [var word, { Length: > 0 }] && info.Words.Contains(word, StringComparer.Ordinal);
            world.Check(isText || IsName(option.Name), "L1", $"its option '{option.Name}' is neither a name as it is written in an expression or in configuration, nor WORD:TEXT of one of its words.");
            world.Check(option is { Values.Length: > 0, Default.Length: > 0, Description.Length: > 0 }, "L1", $"its option '{option.Name}' does not say values, default and meaning.");
        }

        world.Check(info.Options.Select(static o => o.Name).Distinct().Count() == info.Options.Count, "L1", $"it lists an option twice: {string.Join(", ", info.Options.Select(static o => o.Name))}.");
        Same("when it is asked again");
        world.Expect("L1", "When it registered", entry.Register);
        Same("after it has registered");

        void Same(string when)
        {
            string now = Text(entry.Plugin.Info);
            world.Check(now == before, "L1", $"{when} it says of itself '{now}', and said '{before}' at first.");
        }
    });

    /// <summary>The words that it announces are those of its factories, and its kinds are those of its services.</summary>
    [Fact]
    public virtual void L1_its_words_and_kinds_are_those_of_its_factories() => InWorld(world =>
    {
        SkipUnless(Fixture.PluginFolder is not null, "The fixture builds the plugin in: it cannot be unloaded to see which words are its own.");
        string[] before = Words(world);
        world.Host.Plugins.Unload(world.Plugin!.Name);
        string[] own = [.. before.Except(Words(world)).Order(StringComparer.Ordinal)];
        using PluginEntry entry = PluginEntry.Load(Fixture);
        string[] announced = [.. entry.Plugin.Info.Words.Order(StringComparer.Ordinal)];
        world.Check(own.SequenceEqual(announced), "L1", $"it announces the words '{string.Join(", ", announced)}', and its factories have '{string.Join(", ", own)}'.");

        IReadOnlyList<Type> services = entry.Register();
        PluginKinds kinds = PluginKinds.None;
        if (services.Any(static s => s == typeof(IBlockDeviceFactory) || s == typeof(IFileFactory) || s == typeof(IRdmaDeviceFactory) || s == typeof(IPciDriver)))
            kinds |= PluginKinds.Importer;
        if (services.Contains(typeof(IExporterFactory)))
            kinds |= PluginKinds.Exporter;
        if (services.Contains(typeof(IPciFunctionFactory)))
            kinds |= PluginKinds.PciFunction;
        world.Check(entry.Plugin.Info.Kinds == kinds, "L1", $"it says that it brings {entry.Plugin.Info.Kinds}, and registers {kinds}.");
        world.Check(world.Host.Plugins.Load(Fixture.PluginFolder!).State == Hosting.PluginState.Loaded, "L3", "it was unloaded, and could not be loaded again.");
    });

    /// <summary>What is right opens, each word and each option that it lists among it.</summary>
    [Fact]
    public virtual void L1_its_words_and_options_do_what_it_says() => InWorld(world =>
    {
        IReadOnlyList<string> right = Right(world);
        foreach (string expression in right)
            Accepted(world, expression, "L1");
        if (world.Plugin is not { } status)
            return;
        DeviceExpression[] parsed = [.. right.Select(e => Parse(world, e))];
        string[] words = [.. status.Words.Where(w => !parsed.Any(p => p.Word == w))];
        Assert.True(words.Length == 0, $"The fixture's Right has no expression for the words {string.Join(", ", words)}: add one for each.");
        string[] options =
        [
            .. status.Options.Select(static o => o.Name)
                .Where(o => !o.Contains(':', StringComparison.Ordinal) && !parsed.Any(p => p.Options.ContainsKey(o)) && !Fixture.Settings.ContainsKey($"{status.Name}:{o}")),
        ];
        Assert.True(options.Length == 0, $"Neither an expression of the fixture's Right nor its Settings give a value to the options {string.Join(", ", options)}: add one for each.");
    });

    private static string[] Words(ContractWorld world) => [.. world.Host.Plugins.DeviceWords, .. world.Host.Plugins.ExporterWords];

    private static string Text(PluginInfo info) =>
        $"{info.Name} {info.Version} {info.Kinds}: {info.Description}; words {string.Join(" ", info.Words)}; options {string.Join(" ", info.Options)}";

    private static bool IsName(string text) =>
        text.Length > 0 && char.IsAsciiLetter(text[0]) && text.All(static c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_');

    private static bool IsWord(string text) =>
        text.Length > 0 && char.IsAsciiLetterLower(text[0]) && text.All(static c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-');
}
