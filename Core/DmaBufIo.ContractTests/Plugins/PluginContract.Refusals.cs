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
        return true;
    });

    /// <summary>A value that cannot be right, in the place of each that is given.</summary>
    [Fact]
    public virtual void L2_a_value_that_is_none_is_refused() => Changed((world, parsed) =>
    {
        bool hasValues = false;
        foreach ((string name, DeviceOption option) in parsed.Options)
        {
            if (Fixture.FreeTextOptions.Contains(name, StringComparer.Ordinal) || option.Value.Length == 0 || parsed.Source[option.Position] == '"')
                continue;
            string changed = string.Concat(parsed.Source.AsSpan(0, option.Position), "?!", parsed.Source.AsSpan(option.Position + option.Value.Length));
            Refused(world, changed, $"'?!' is no value of {name}", option.NamePosition, option.Position + 2);
            hasValues = true;
        }

        return hasValues;
    },
    "No expression of the fixture's Right gives an option a value that could be wrong.");

    /// <summary>Members where none belong, and none where some do.</summary>
    [Fact]
    public virtual void L2_members_that_do_not_belong_or_are_missing_are_refused() => Changed((world, parsed) =>
    {
        if (world.Host.Plugins.ExporterWords.Contains(parsed.Word, StringComparer.Ordinal))
            return false; // the grammar gives exporters none
        if (parsed.Members.Count == 0)
        {
            Refused(world, $"{(parsed.Source.StartsWith(parsed.Word, StringComparison.Ordinal) ? parsed.Source : $"{parsed.Word}:{parsed.Source}")}(puppet:stranger)", "it has a member where none belongs");
            return true;
        }

        int open = parsed.Source.IndexOf('(', StringComparison.Ordinal);
        string bare = parsed.Source[..open].TrimEnd('@');
        Refused(world, bare.Contains(':', StringComparison.Ordinal) ? bare : $"{bare}:\"\"", "its members are missing");
        return true;
    },
    "Exporters have no members.");

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

    /// <summary>Tries each right expression with a mistake in it; where none of them can have it, the fact is skipped.</summary>
    private void Changed(Func<ContractWorld, DeviceExpression, bool> refuse, string whyNot = "") => InWorld(world =>
    {
        WarmUp(world);
        bool wasTried = false;
        foreach (string expression in Right(world))
            wasTried |= refuse(world, Parse(world, expression));
        SkipUnless(wasTried, whyNot);
    });

    // What Core and the runtime open when something is used for the first time stays open.
    private void WarmUp(ContractWorld world)
    {
        foreach (string expression in Right(world))
            Accepted(world, expression, "L1");
    }
}
