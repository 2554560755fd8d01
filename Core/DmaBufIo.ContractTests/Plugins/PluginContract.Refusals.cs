using DmaBufIo.Hosting;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;

namespace DmaBufIo.ContractTests;

/// <content>What is wrong is refused, with an error that helps, and leaves nothing open (L2).</content>
public abstract partial class PluginContract
{
    /// <summary>An option that no word knows, at the end of each right expression.</summary>
    [Fact]
    public virtual void L2_an_option_that_it_does_not_know_is_refused() => Changed((world, parsed) =>
    {
        const string Unknown = "no-such-option=1";
        int at = parsed.Source.Length;
        if (parsed.Members.Count != 0)
        {
            at = parsed.Source.IndexOf('(', StringComparison.Ordinal);
            at -= at > 0 && parsed.Source[at - 1] == '@' ? 1 : 0;
        }

        // A word without a text has no other place for an option than after an empty one; an exporter's options follow its colon.
        bool isBare = parsed.Text is null && parsed.Options.Count == 0;
        string separator = !isBare ? "," : parsed.Members.Count != 0 ? ":\"\"," : ":";
        string changed = parsed.Source.Insert(at, separator + Unknown);
        Refused(world, changed, "it gives an option that there is not", parsed.Members.Count != 0 && isBare ? 0 : at, at + separator.Length + Unknown.Length);
    });

    /// <summary>A value that cannot be right, in the place of each that is given.</summary>
    [Fact]
    public virtual void L2_a_value_that_is_none_is_refused() => Changed((world, parsed) =>
    {
        foreach ((string name, DeviceOption option) in parsed.Options)
        {
            if (Fixture.FreeTextOptions.Contains(name, StringComparer.Ordinal) || option.Value.Length == 0 || parsed.Source[option.Position] == '"')
                continue;
            string changed = string.Concat(parsed.Source.AsSpan(0, option.Position), "?!", parsed.Source.AsSpan(option.Position + option.Value.Length));
            Refused(world, changed, $"'?!' is no value of {name}", option.NamePosition, option.Position + 2);
        }
    });

    /// <summary>Members where none belong, and none where some do.</summary>
    [Fact]
    public virtual void L2_members_that_do_not_belong_or_are_missing_are_refused() => Changed((world, parsed) =>
    {
        if (world.Host.Plugins.ExporterWords.Contains(parsed.Word, StringComparer.Ordinal))
            return; // the grammar gives exporters none
        if (parsed.Members.Count == 0)
        {
            Refused(world, $"{(parsed.Source.StartsWith(parsed.Word, StringComparison.Ordinal) ? parsed.Source : $"{parsed.Word}:{parsed.Source}")}(puppet:stranger)", "it has a member where none belongs");
            return;
        }

        int open = parsed.Source.IndexOf('(', StringComparison.Ordinal);
        string bare = parsed.Source[..open].TrimEnd('@');
        Refused(world, bare.Contains(':', StringComparison.Ordinal) ? bare : $"{bare}:\"\"", "its members are missing");
    });

    /// <summary>What the author says must be refused.</summary>
    [Fact]
    public virtual void L2_what_is_wrong_is_refused() => InWorld(world =>
    {
        IReadOnlyList<string> wrong = Fixture.Wrong(world);
        SkipUnless(wrong.Count != 0, "The fixture names no wrong expressions.");
        WarmUp(world);
        foreach (string expression in wrong)
            Refused(world, expression, "the fixture says that it is wrong");
    });

    /// <summary>A value that cannot be right, in the place of each in the plugin's configuration: the plugin is not loaded, and says why.</summary>
    [Fact]
    public virtual void L2_a_setting_that_is_none_is_refused_when_it_is_loaded() => InWorld(world =>
    {
        SkipUnless(Fixture.PluginFolder is not null, "The fixture builds the plugin in.");
        string[] keys = [.. Fixture.Settings.Where(s => s.Value is not null && !Fixture.FreeTextOptions.Contains(s.Key.Split(':')[^1], StringComparer.Ordinal)).Select(static s => s.Key)];
        SkipUnless(keys.Length != 0, "The fixture has no settings.");
        foreach (string key in keys)
        {
            IConfiguration configuration = new ConfigurationBuilder()
                .AddInMemoryCollection([new KeyValuePair<string, string?>($"{DmaBufIoOptions.SectionName}:Plugins:{key}", "?!")])
                .Build();
            using DmaBufIoHost host = DmaBufIoHost.Create(new DmaBufIoOptions { LoadPluginFolder = false }.UseFabric(world.Fabric), null, configuration);
            PluginStatus status = host.Plugins.Load(Fixture.PluginFolder!);
            world.Check(status.State == PluginState.Refused && !string.IsNullOrEmpty(status.Reason), "L2", $"it was loaded although its setting {key} has the value '?!'.");
        }
    });

    private void Changed(Action<ContractWorld, DeviceExpression> refuse) => InWorld(world =>
    {
        WarmUp(world);
        foreach (string expression in Fixture.Right(world))
            refuse(world, Parse(world, expression));
    });

    // What Core and the runtime open when something is used for the first time stays open.
    private void WarmUp(ContractWorld world)
    {
        foreach (string expression in Fixture.Right(world))
            Accepted(world, expression, "L1");
    }
}
