using System.Reflection;
using DmaBufIo.ContractTests.Tests.Own;

namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>A fixture that names nothing proves nothing: no fact that uses a plugin passes with it.</summary>
[Collection("DmaBufIo contracts")]
public sealed class EmptyFixtureTests
{
    [Theory]
    [InlineData(nameof(PluginContract.L1_its_words_and_options_do_what_it_says))]
    [InlineData(nameof(PluginContract.L2_an_option_that_it_does_not_know_is_refused))]
    [InlineData(nameof(PluginContract.L2_a_value_that_is_none_is_refused))]
    [InlineData(nameof(PluginContract.L2_members_that_do_not_belong_or_are_missing_are_refused))]
    [InlineData(nameof(PluginContract.L3_a_plugin_that_was_used_is_collected_when_it_is_unloaded_and_loads_again))]
    [InlineData(nameof(PluginContract.L4_nothing_is_thrown_from_its_callbacks))]
    public void A_fact_about_a_plugin_that_is_not_used_does_not_pass(string fact)
    {
        MethodInfo method = typeof(PluginContract).GetMethod(fact)!;
        var thrown = Assert.Throws<TargetInvocationException>(() => method.Invoke(new NothingNamed(), null));
        Assert.Contains("names no expression", thrown.InnerException!.Message, StringComparison.Ordinal);
    }

    private sealed class NothingNamed() : PluginContract(new OwnPlugin(OwnPlugin.Nvme, [OwnPlugin.Model], static _ => []));
}
