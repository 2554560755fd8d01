using DmaBufIo.ContractTests.Tests.Own;

namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>Faulty exporters.</summary>
internal static class ExporterMutants
{
    internal static IReadOnlyList<Mutant> All { get; } =
    [
        Of("N1", "maps-in-the-wrong-order", "maps the pieces of a buffer in another order than they lie in", nameof(ExporterContract.N1_a_table_covers_the_buffer_exactly_and_in_order)),
        Of("N1", "forgets-the-last-range", "makes a table that ends before the buffer", nameof(ExporterContract.N1_a_table_covers_the_buffer_exactly_and_in_order)),
        Of("N1", "gives-others-addresses", "gives a device the table that it has made for another one", nameof(ExporterContract.N1_a_table_covers_the_buffer_exactly_and_in_order)),
        Of("N1", "forgets-the-last-piece", "does not copy all of the contents when it moves a buffer", nameof(ExporterContract.N1_the_contents_survive_every_move)),
        Of("T1", "maps-both-ways", "lets a device write that asked to read", nameof(ExporterContract.T1_a_device_is_allowed_the_direction_that_it_asked_for)),
        Of("T8", "unmaps-all-of-the-device", "ends all mappings of a device when one table is given back", nameof(ExporterContract.T8_unmapping_ends_exactly_the_mappings_of_the_table)),
        Of("T8", "unmaps-all-but-the-last", "forgets the last range of a table when it unmaps", nameof(ExporterContract.T8_unmapping_ends_exactly_the_mappings_of_the_table)),
        Of("T10", "keeps-a-reference", "takes a reference for a job and does not drop it", nameof(ExporterContract.T10_a_job_keeps_the_buffer_only_while_it_runs)),
        Of("T12", "leaves-a-half-made-map", "leaves the first ranges mapped when a later one cannot be", nameof(ExporterContract.T12_a_map_that_fails_half_way_leaves_nothing_mapped)),
        Of("T12", "works-under-live-maps", "starts a job without ending the maps of its buffers", nameof(ExporterContract.T12_a_request_after_a_job_finds_what_the_job_has_written)),
        Of("T12", "publishes-as-bookkeeping", "publishes a job that writes as one that keeps the memory in place", nameof(ExporterContract.T12_a_request_after_a_job_finds_what_the_job_has_written)),
        Of("T12", "maps-under-jobs-that-read", "gives a device the buffer to write while a job reads it", nameof(ExporterContract.T12_a_device_does_not_write_what_a_job_still_reads)),
        Of("T12", "remembers-what-it-read", "answers a job from what an earlier one has read", nameof(ExporterContract.T12_a_job_sees_what_requests_before_it_have_brought)),
        Of("T17", "invalidates-one-by-one", "waits for the requests on one buffer of a job before it ends the maps of the next", nameof(ExporterContract.T17_a_job_over_two_buffers_ends_the_maps_of_both_before_it_waits_for_either)),
        Of("T17", "invalidates-only-what-it-writes", "ends only the maps of buffers that a job writes", nameof(ExporterContract.T17_a_job_over_two_buffers_ends_the_maps_of_both_before_it_waits_for_either)),
        Of("F1", "reserves-no-room", "adds a fence without having reserved room", nameof(ExporterContract.F1_a_job_is_taken_however_many_fences_there_are)),
        Of("F1", "reserves-under-another-hold", "reserves room, gives the lock back, takes it again and adds the fence", nameof(ExporterContract.F1_a_job_is_taken_however_many_fences_there_are)),
        Of("F1", "publishes-before-it-checks", "publishes the fence of a job and then refuses the job", nameof(ExporterContract.F1_a_job_that_is_refused_leaves_no_fence)),
        Of("F2", "shares-a-timeline", "gives two engines one fence context", nameof(ExporterContract.F2_no_fence_of_a_job_that_still_runs_is_lost)),
        Of("F2", "serves-the-last-first", "numbers the fences of a context in another order than they signal in", nameof(ExporterContract.F2_no_fence_of_a_job_that_still_runs_is_lost)),
        Of("F2", "publishes-for-one-buffer", "publishes the fence of a job over two buffers on one of them", nameof(ExporterContract.F2_a_job_has_a_fence_on_each_of_its_buffers)),
        Of("F3", "moves-on-the-engine", "lets the thread that signals fences wait for a reservation lock", nameof(ExporterContract.F3_jobs_end_while_the_lock_of_another_buffer_is_held)),
        Of("F3", "waits-for-later-jobs", "lets a job wait for the fences of jobs that came after it", nameof(ExporterContract.F3_jobs_end_while_the_lock_of_another_buffer_is_held)),
        Of("F3", "map-waits-for-a-worker", "waits in Map for a worker that needs the lock which is held", nameof(ExporterContract.F3_a_map_waits_for_nothing_that_needs_the_lock)),
        Of("F4", "locks-before-it-works", "takes the buffer's lock in a job", nameof(ExporterContract.F4_everyone_may_wait_for_jobs_with_the_lock_held)),
        Of("F4", "cleans-up-before-it-signals", "takes the buffer's lock between a job's work and its signal", nameof(ExporterContract.F4_everyone_may_wait_for_jobs_with_the_lock_held)),
        Of("F5", "locks-without-a-context", "takes two locks without an acquire context", nameof(ExporterContract.F5_a_job_over_two_buffers_gives_way_to_an_older_locker)),
        Of("F5", "takes-a-context-per-buffer", "takes two locks with two acquire contexts", nameof(ExporterContract.F5_a_job_over_two_buffers_gives_way_to_an_older_locker)),
        Of("F5", "ignores-wounds", "tries again for the second lock without giving the first one back", nameof(ExporterContract.F5_a_job_over_two_buffers_gives_way_to_an_older_locker)),
        Of("F6", "moves-after-unlocking", "invalidates with the lock held and moves after giving it back", nameof(ExporterContract.F6_no_map_of_the_old_place_is_made_while_the_buffer_moves)),
        Of("F6", "unlocks-in-between", "gives the lock back between the invalidation and the move", nameof(ExporterContract.F6_no_map_of_the_old_place_is_made_while_the_buffer_moves)),
        Of("F6", "keeps-old-tables", "answers a table that it has made before the buffer moved", nameof(ExporterContract.F6_a_map_after_a_move_is_of_the_new_place)),
        Of("F7", "tells-nobody", "moves a buffer without telling its importers", nameof(ExporterContract.F7_importers_are_told_of_every_move)),
        Of("F7", "copies-before-it-invalidates", "copies the contents while requests still bring some", nameof(ExporterContract.F7_the_old_memory_is_left_alone_until_requests_in_flight_have_ended)),
        Of("F7", "poisons-before-it-invalidates", "overwrites the old place while requests still use it", nameof(ExporterContract.F7_the_old_memory_is_left_alone_until_requests_in_flight_have_ended)),
        Of("F7", "waits-for-no-fence", "does not wait for the fences that an invalidation leaves", nameof(ExporterContract.F7_the_old_memory_is_left_alone_until_the_fences_have_signalled)),
        Of("F7", "leaves-the-old-place-alive", "does not mark the old place dead", nameof(ExporterContract.F7_after_a_move_an_access_to_the_old_addresses_is_recorded)),
        Of("F7", "ignores-pins", "moves a buffer that a static attachment keeps in place", nameof(ExporterContract.F7_a_static_attachment_keeps_the_buffer_where_it_is)),
        Of("R7", "counts-in-30-bits", "keeps the sizes of buffers in 30 bits", nameof(ExporterContract.R7_a_buffer_of_more_than_1_GiB_is_mapped_to_its_end)),
        Of("L1", "says-it-cannot-move", "moves buffers and says that it cannot", nameof(ExporterContract.L1_an_exporter_says_what_it_can)),
        Of("L2", "ignores-options", "ignores options that it does not know", nameof(ExporterContract.L2_a_wrong_expression_is_refused_with_a_remedy)),
    ];

    private static Mutant Of(string rule, string fault, string does, string fact) => new(rule, fault, does, typeof(ExporterContract), fact, static fault => new Contract(fault));

    private sealed class Contract(string? fault) : ExporterContract(new FaultyExporterFixture(fault));
}
