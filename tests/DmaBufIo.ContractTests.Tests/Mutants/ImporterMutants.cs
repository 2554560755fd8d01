using Contracts = DmaBufIo.ContractTests.ImporterContract;

namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>The card of the fixtures' faulty importer, with one mistake or none.</summary>
internal sealed class FaultyImporterFixture(string? fault) : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyImporter");

    public IReadOnlyDictionary<string, string?> Settings => fault is null ? new Dictionary<string, string?>() : new Dictionary<string, string?> { ["faulty-importer:fault"] = fault };

    public ImporterCapabilities Capabilities => ImporterCapabilities.Storage & ~ImporterCapabilities.Interrupts;

    // One that hangs does so at once; without a fault there is as much time as for others.
    public TimeSpan? Patience => fault is null ? null : TimeSpan.FromSeconds(2);

    public ImporterTarget Open(ContractWorld world) => new BlockDeviceTarget(world, "card:4M");
}

/// <summary>The disk of the fixtures' faulty block device, as an importer that interrupts, with one mistake or none.</summary>
internal sealed class InterruptingDiskFixture(string? fault) : IImporterFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyBlockDevice");

    public IReadOnlyDictionary<string, string?> Settings => fault is null ? new Dictionary<string, string?>() : new Dictionary<string, string?> { ["faulty-block-device:fault"] = fault };

    // It works alone once interrupts are wanted.
    public ImporterCapabilities Capabilities =>
        ImporterCapabilities.KeepsData | ImporterCapabilities.MovesData | ImporterCapabilities.Interrupts | ImporterCapabilities.WorksAlone | ImporterCapabilities.Reset | ImporterCapabilities.Remove;

    public TimeSpan? Patience => fault is null ? null : TimeSpan.FromSeconds(2);

    public ImporterTarget Open(ContractWorld world) => new BlockDeviceTarget(world, "faulty:4M");
}

/// <summary>The faulty importer without a fault: correct, and no contract may find fault with it.</summary>
[Trait("Duration", "Minutes")]
public sealed class CardImporterTests() : ImporterContract(new FaultyImporterFixture(null));

/// <summary>The faulty importers, and the facts that find them.</summary>
internal static class ImporterMutants
{
    internal static IReadOnlyList<Mutant> All { get; } =
    [
        Make("T1", "maps both ways", "maps every registration for both directions", nameof(Contracts.T1_the_device_may_do_what_the_registration_is_for_and_no_more)),
        Make("T1", "takes directions for the other", "takes 'to device' for a read of the device", nameof(Contracts.T1_the_device_may_do_what_the_registration_is_for_and_no_more)),
        Make("T1", "takes both directions only", "refuses registrations for one direction", nameof(Contracts.T1_a_request_against_the_direction_of_its_registration_ends_with_EACCES)),
        Make("T2", "keeps a reference on the buffer", "takes a reference on the buffer for itself and forgets it", nameof(Contracts.T2_a_registration_holds_one_reference_on_the_buffer_and_one_on_the_file)),
        Make("T2", "releases only what was set up", "releases nothing when its setup has failed half-way", nameof(Contracts.T2_a_registration_that_fails_half_way_leaves_nothing_behind)),
        Make("T2", "forgets a mailbox at open", "leaves its first mailbox mapped when the second cannot be", nameof(Contracts.T2_a_device_that_cannot_be_opened_leaves_nothing_behind)),
        Make("T5", "maps in setup", "maps the buffer once, at registration, past the attachment and without its lock", nameof(Contracts.T5_the_buffer_is_mapped_and_unmapped_with_its_lock_held)),
        Make("T5", "unmaps on a thread of its own", "leaves unmapping to a thread that does not hold the lock", nameof(Contracts.T5_the_buffer_is_mapped_and_unmapped_with_its_lock_held)),
        Make("T5", "locks in map", "takes the reservation lock in Map, which runs with it held", nameof(Contracts.T5_the_buffer_is_mapped_and_unmapped_with_its_lock_held)),
        Make("T7", "keeps its first addresses", "goes on with the addresses of its first map", nameof(Contracts.T7_a_request_after_a_move_uses_the_new_place)),
        Make("T7", "remembers maps by their buffer", "remembers in its queue which map a buffer had", nameof(Contracts.T7_a_request_after_a_move_uses_the_new_place)),
        Make("T8", "forgets to unmap", "gives its list back in Unmap and forgets the table", nameof(Contracts.T8_every_map_is_unmapped_once)),
        Make("T8", "keeps the last table", "keeps a table until the next one comes, in case it can be used again", nameof(Contracts.T8_every_map_is_unmapped_once)),
        Make("T8", "unmaps twice", "gives a table back twice, and with it another registration's", nameof(Contracts.T8_the_end_of_one_registration_leaves_the_others_of_the_buffer_alone)),
        Make("T10", "forgets a list", "releases one of its two lists", nameof(Contracts.T10_a_registration_that_was_used_leaves_nothing)),
        Make("T10", "releases only what was used", "releases nothing of a registration that had no request", nameof(Contracts.T10_a_registration_that_was_never_used_leaves_nothing)),
        Make("T11", "a reset waits for what it keeps", "waits in a reset for maps that its own requests keep", nameof(Contracts.T11_a_reset_under_load_comes_to_its_end)),
        Make("T11", "a reset keeps the maps", "does not kill the maps in a reset", nameof(Contracts.T11_a_reset_kills_the_maps)),
        Make("T11", "a removal waits before it ends requests", "waits in a removal for requests that it ends afterwards", nameof(Contracts.T11_a_device_that_was_removed_under_load_answers_ENODEV)),
        Make("T11", "a removal tells nobody", "does not mark its device as removed", nameof(Contracts.T11_a_device_that_was_removed_under_load_answers_ENODEV)),
        Make("T12", "forgets the table when its list cannot be mapped", "leaves the buffer mapped when the rest of the map fails", nameof(Contracts.T12_a_map_that_fails_half_way_is_undone)),
        Make("T12", "forgets its list when the buffer cannot be mapped", "makes its list first and leaves it when the buffer cannot be mapped", nameof(Contracts.T12_a_buffer_that_cannot_be_mapped_now_fails_the_request_and_not_the_next)),
        Make("T14", "polls for its opener only", "lets only the thread that opened the queue poll it", nameof(Contracts.T14_somebody_elses_move_ends_though_nobody_reaps)),
        Make("T14", "polls for an active owner only", "polls only while the ring's own thread is inside a batch", nameof(Contracts.T14_somebody_elses_move_ends_though_nobody_reaps)),
        Make("T15", "spins for the lock", "waits in Submit until the reservation lock is free", nameof(Contracts.T15_requests_on_a_live_map_need_no_reservation_lock)),
        Make("T15", "the engine takes the lock", "takes the reservation lock on the device's thread while it moves data", nameof(Contracts.T15_requests_on_a_live_map_need_no_reservation_lock)),
        Make("T16", "drops what does not fit", "takes bios for which it has no room, and forgets them", nameof(Contracts.T16_a_full_queue_loses_and_doubles_nothing)),
        Make("T16", "fails what does not fit", "ends bios for which it has no room with an error", nameof(Contracts.T16_a_full_queue_loses_and_doubles_nothing)),
        Make("T18", "ends requests when they are rung", "ends requests when they are handed to the device", nameof(Contracts.T18_a_move_waits_until_the_device_has_finished_with_the_memory)),
        Make("T18", "is done before its last piece", "ends a request while its last piece is being moved", nameof(Contracts.T18_a_move_waits_for_the_last_piece_of_a_request)),
        Make("T18", "syncs for the CPU before the data has come", "synchronises for the CPU when a read is submitted", nameof(Contracts.T18_the_CPU_sync_comes_after_the_data_and_before_the_end)),
        Make("N1", "one piece only", "takes the buffer for one piece", nameof(Contracts.N1_reads_bring_the_bytes_of_the_device_to_their_place_in_the_buffer)),
        Make("N1", "loses the offset in the page", "begins every request at the start of its page", nameof(Contracts.N1_writes_bring_the_bytes_of_the_buffer_to_their_place_on_the_device)),
        Make("N1", "forgets where it was at a joint", "begins the second piece of a request at the place where the first one ended", nameof(Contracts.N1_reads_bring_the_bytes_of_the_device_to_their_place_in_the_buffer)),
        Make("N4", "walks from the start", "walks through the pieces from the start for every request", nameof(Contracts.N4_a_request_costs_the_same_wherever_it_lies_in_the_buffer)),
        Make("N4", "adds all lengths up", "makes a list of all pieces for every request", nameof(Contracts.N4_a_request_costs_the_same_wherever_it_lies_in_the_buffer)),
        Make("N6", "keeps the places of failed requests", "does not give back the place of a request that failed", nameof(Contracts.N6_requests_whose_DMA_fails_end_with_an_error_and_give_everything_back)),
        Make("N6", "keeps the tags of failed requests", "does not give back the tag of a request that failed, and has 1,024 of them", nameof(Contracts.N6_requests_whose_DMA_fails_end_with_an_error_and_give_everything_back)),
        Make("N6", "only the last piece counts", "reports what became of the last piece of a request, and forgets the others", nameof(Contracts.N6_a_request_of_which_one_piece_fails_ends_with_an_error)),
        Make("N6", "a failed DMA is a success", "reports a failed DMA as done", nameof(Contracts.N6_a_DMA_that_fails_costs_its_own_request_alone)),
        Make("N7", "does not sync for the CPU", "does not synchronise for the CPU after a read", nameof(Contracts.N7_a_device_that_is_not_coherent_has_the_requests_range_synchronised)),
        Make("N7", "does not sync for the device", "does not synchronise for the device before a write", nameof(Contracts.N7_a_device_that_is_not_coherent_has_the_requests_range_synchronised)),
        Make("N7", "syncs everything", "synchronises the whole buffer for every request", nameof(Contracts.N7_a_device_that_is_not_coherent_has_the_requests_range_synchronised)),
        Make("N8", "a reset loses the requests", "forgets the requests in flight in a reset", nameof(Contracts.T11_a_reset_under_load_comes_to_its_end)),
        Make("N8", "a reset ends only what was done", "ends only those requests in a reset that the device has done", nameof(Contracts.T11_a_reset_under_load_comes_to_its_end)),
        Make("N8", "ends every bio twice", "ends every bio twice", nameof(Contracts.N8_every_request_ends_once)),
        Make("N8", "ends a failed bio twice", "ends a bio twice whose DMA has failed", nameof(Contracts.N6_requests_whose_DMA_fails_end_with_an_error_and_give_everything_back)),
        Make("N8", "ends what it does not take", "ends bios with an error that it does not take", nameof(Contracts.T16_a_full_queue_loses_and_doubles_nothing)),
        Make("N9", "rounds pieces down", "rounds pieces down to its own pages of 8 KiB", nameof(Contracts.N9_a_buffer_of_odd_pieces_is_transferred_right_or_refused)),
        Make("N9", "only the first 256 pieces", "has room for 256 pieces and leaves the others out", nameof(Contracts.N9_a_buffer_of_single_pages_is_transferred_right_or_refused)),
        Make("R7", "offsets of thirty bits", "keeps offsets in 30 bits", nameof(Contracts.R7_a_buffer_of_more_than_1_GiB_works_everywhere)),
        Make("R7", "takes no more than 1 GiB", "refuses buffers of more than 1 GiB", nameof(Contracts.R7_a_buffer_of_more_than_1_GiB_works_everywhere)),
        Make("A1", "allocates", "allocates an object per request", nameof(Contracts.A1_a_request_allocates_nothing_and_takes_no_lock)),
        Make("A1", "takes a hidden lock", "counts each request in a concurrent dictionary", nameof(Contracts.A1_a_request_allocates_nothing_and_takes_no_lock)),
        Make("A1", "takes the lock of a method", "calls a method that is synchronized for each request", nameof(Contracts.A1_a_request_allocates_nothing_and_takes_no_lock)),
        Make("A1", "takes a lock", "takes a lock per request", nameof(Contracts.A1_a_request_allocates_nothing_and_takes_no_lock)),
        Disk("calls-before", "interrupts for a request that it has not done yet"),
        Disk("calls-once-per-batch", "interrupts for the first of the requests that it was given"),
        Disk("looks-without-its-lock", "hands a request to its thread when the device was there a moment ago", nameof(Contracts.N8_a_removal_at_any_moment_ends_every_request), "N8"),
        Disk("resets-in-silence", "does not interrupt for what a reset ends", nameof(Contracts.C6_a_ring_that_sleeps_is_woken_by_a_reset)),
    ];

    private static Mutant Disk(string fault, string does, string fact = nameof(Contracts.C6_a_ring_is_woken_by_what_ends_while_it_sleeps), string rule = "C6") =>
        new(rule, fault, does, typeof(Contracts), fact, static fault => new InterruptingDiskTests(fault));

    private static Mutant Make(string rule, string fault, string does, string fact) =>
        new(rule, fault, does, typeof(Contracts), fact, static fault => new FaultyImporterTests(fault));

    // Not public: run by MutantTests, fact by fact, and not by the runner.
#pragma warning disable xUnit1000
    private sealed class FaultyImporterTests(string? fault) : ImporterContract(new FaultyImporterFixture(fault));

    private sealed class InterruptingDiskTests(string? fault) : ImporterContract(new InterruptingDiskFixture(fault));
#pragma warning restore xUnit1000
}
