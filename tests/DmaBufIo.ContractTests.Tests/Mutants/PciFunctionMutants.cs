using DmaBufIo.ContractTests.Tests.Own;

namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>The faulty PCI functions, for the rules on the page "pci-function", and what only a driver of one can do wrong.</summary>
internal static class PciFunctionMutants
{
    internal static IEnumerable<Mutant> All =>
    [
        Function("C1", "identity-changes", "is another device after a reset", nameof(PciFunctionContract.C1_what_a_function_is_does_not_change)),
        Function("C1", "vectors-change", "has fewer vectors after a reset", nameof(PciFunctionContract.C1_what_a_function_is_does_not_change)),
        Function("C1", "odd-bar", "has a BAR that is no power of two", nameof(PciFunctionContract.C1_a_BAR_is_a_power_of_two)),
        Function("C2", "reads-0-outside", "reads zeros where no register is", nameof(PciFunctionContract.C2_a_read_outside_a_BAR_is_all_ones)),
        Function("C2", "offset-in-8-bits", "looks at 8 bits of an offset only", nameof(PciFunctionContract.C2_a_write_outside_a_BAR_changes_nothing)),
        Function("C2", "throws-outside", "throws where no register is", nameof(PciFunctionContract.C2_a_write_outside_a_BAR_changes_nothing)),
        Function("C3", "reset-keeps-registers", "keeps its registers over a reset", nameof(PciFunctionContract.C3_a_reset_makes_any_writes_undone)),
        Function("C3", "reset-does-not-wait", "does not wait for its DMA in a reset", nameof(PciFunctionContract.C3_DMA_has_ended_when_a_reset_returns)),
        Function("C4", "hides-faults", "answers well whatever became of its DMA", nameof(PciFunctionContract.C4_an_address_that_is_not_mapped_ends_the_command_with_an_error)),
        Function("C4", "hides-faults-of-writes", "answers well although it could not read the memory that it was to write from", nameof(PciFunctionContract.C4_with_a_driver_any_DMA_that_fails_is_an_error_and_no_hang)),
        Function("C4", "writes-too-much", "writes a byte behind the memory it was given", nameof(PciFunctionContract.C4_DMA_goes_where_it_was_told_and_nowhere_else)),
        Function("C5", "answers-when-gone", "answers after it was disposed", nameof(PciFunctionContract.C5_a_function_that_was_disposed_is_gone)),
        Function("C5", "stays-in-the-fabric", "does not leave the fabric", nameof(PciFunctionContract.C5_a_function_that_was_disposed_is_gone)),
        Function("C5", "thread-stays", "leaves its thread behind", nameof(PciFunctionContract.C5_a_function_that_was_disposed_is_gone)),
        Function("C6", "wrong-vector", "interrupts on a vector that has another meaning", nameof(PciFunctionContract.C6_every_completion_calls_the_handler_of_its_vector)),
        Function("C6", "interrupts-at-once", "interrupts before it has done anything", nameof(PciFunctionContract.C6_no_interrupt_comes_before_its_completion)),
        Function("C6", "forgets-interrupts", "forgets an interrupt now and then", nameof(PciFunctionContract.C6_every_completion_calls_the_handler_of_its_vector)),
        Driver("N8", "reset-forgets", "does not end the bios that wait when it is reset", nameof(BlockDeviceContract.N8_a_reset_ends_every_bio_once_and_the_queue_goes_on)),
        Driver("N8", "reset-ends-twice", "ends the bios that wait when it is reset twice", nameof(BlockDeviceContract.N8_a_reset_ends_every_bio_once_and_the_queue_goes_on)),
    ];

    private static Mutant Function(string rule, string fault, string does, string fact) =>
        new(rule, fault, does, typeof(PciFunctionContract), fact, static f => new FaultyFunctionTests(f));

    private static Mutant Driver(string rule, string fault, string does, string fact) =>
        new(rule, fault, does, typeof(BlockDeviceContract), fact, static f => new FaultyFunctionBlockTests(f));
}
