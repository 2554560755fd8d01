using DmaBufIo.ContractTests.Tests.Own;

namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>The faulty plugins as such, for the rules on the page "plugin".</summary>
internal static class PluginMutants
{
    internal static IEnumerable<Mutant> All =>
    [
        Of("L1", "info-changes", "says something else of itself once it is registered", nameof(PluginContract.L1_what_it_says_is_well_formed_and_constant)),
        Of("L1", "announces-too-much", "announces a word that no factory of it has", nameof(PluginContract.L1_its_words_and_kinds_are_those_of_its_factories)),
        Of("L1", "kinds-lie", "says that it brings an exporter, and brings a block device", nameof(PluginContract.L1_its_words_and_kinds_are_those_of_its_factories)),
        Of("L1", "refuses-its-own-option", "refuses a value of an option that it lists", nameof(PluginContract.L1_its_words_and_options_do_what_it_says)),
        Of("L2", "ignores-options", "ignores options that it does not know", nameof(PluginContract.L2_an_option_that_it_does_not_know_is_refused)),
        Of("L2", "throws-what-it-likes", "throws a FormatException for a size that is none", nameof(PluginContract.L2_what_is_wrong_is_refused)),
        Of("L2", "does-not-point", "refuses a size without pointing at it", nameof(PluginContract.L2_what_is_wrong_is_refused)),
        Of("L2", "leaves-a-file", "leaves a file open when it refuses", nameof(PluginContract.L2_what_is_wrong_is_refused)),
        Of("L2", "leaves-a-thread", "leaves a thread running when it refuses", nameof(PluginContract.L2_what_is_wrong_is_refused)),
        Of("L3", "keeps-a-handler", "leaves a handler on an event of the framework", nameof(PluginContract.L3_a_plugin_that_was_used_is_collected_when_it_is_unloaded_and_loads_again)),
        Of("L3", "keeps-a-thread", "leaves a thread of its own waiting", nameof(PluginContract.L3_a_plugin_that_was_used_is_collected_when_it_is_unloaded_and_loads_again)),
        Of("L3", "loads-once", "loads once in a process", nameof(PluginContract.L3_a_plugin_that_was_used_is_collected_when_it_is_unloaded_and_loads_again)),
        Of("L4", "submit-throws", "throws from Submit", nameof(PluginContract.L4_nothing_is_thrown_from_its_callbacks)),
        Of("L4", "release-throws", "throws when its part of a registration is released", nameof(PluginContract.L4_nothing_is_thrown_from_its_callbacks)),
    ];

    private static Mutant Of(string rule, string fault, string does, string fact) =>
        new(rule, fault, does, typeof(PluginContract), fact, static f => new FaultyPluginTests(f));
}
