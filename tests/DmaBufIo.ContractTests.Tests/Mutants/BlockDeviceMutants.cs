using DmaBufIo.ContractTests.Tests.Own;

namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>The faulty block devices, for the rules on the page "block-device".</summary>
internal static class BlockDeviceMutants
{
    internal static IEnumerable<Mutant> All =>
    [
        Disk("B1", "ignores-page-offset", "moves the data of bios backed by pages to the beginning of their memory", nameof(BlockDeviceContract.B1_pages_and_a_map_of_the_same_memory_give_the_same_data)),
        Disk("B1", "backing-of-the-first", "uses the memory of a batch's first bio for all of the batch", nameof(BlockDeviceContract.B1_bios_of_both_kinds_in_one_batch_are_not_mixed)),
        Stack("B2", "forgets-to-advance", "gives each part of a bio the bio's first bytes", nameof(BlockDeviceContract.B2_parts_have_the_backing_of_the_whole)),
        Stack("B2", "turns-writes-of-parts", "sends a part of a write as a read", nameof(BlockDeviceContract.B2_parts_have_the_backing_of_the_whole)),
        Stack("B2", "keeps-flushes", "answers flushes itself and does not hand them on", nameof(BlockDeviceContract.B2_a_flush_reaches_every_member)),
        Disk("B3", "odd-limits", "names a largest bio that is no multiple of its block", nameof(BlockDeviceContract.B3_the_limits_are_sane_and_do_not_change)),
        Disk("B3", "one-segment", "takes one segment and asks for no alignment", nameof(BlockDeviceContract.B3_the_limits_are_sane_and_do_not_change)),
        Disk("B3", "takes-less", "refuses bios of more than 64 KiB although its limits allow 1 MiB", nameof(BlockDeviceContract.B3_every_bio_within_the_limits_is_taken)),
        Disk("B3", "wants-aligned-memory", "refuses memory that is not aligned to 512 bytes although its limits say 4", nameof(BlockDeviceContract.B3_a_bio_of_as_many_segments_as_the_limits_allow_is_taken)),
        Disk("B4", "place-in-32-bits", "counts places in 32 bits", nameof(BlockDeviceContract.B4_places_beyond_4_GiB_are_places_of_their_own)),
        Disk("B4", "size-in-16-bits", "counts the bytes of a bio in 16 bits", nameof(BlockDeviceContract.B4_a_request_longer_than_any_bio_moves_all_its_bytes)),
        Disk("B6", "no-token", "has no token operation", nameof(BlockDeviceContract.B6_the_device_has_the_token_operation)),
        Stack("B6", "registers-itself", "registers buffers for a device of its own in place of its members", nameof(BlockDeviceContract.B6_a_stack_forwards_the_token_operation_to_its_members)),
        Disk("N6", "leaks-room", "does not give the place of a failed bio back", nameof(BlockDeviceContract.N6_after_many_failed_transfers_a_queue_takes_its_full_depth)),
        Disk("N6", "leaves-mapping", "leaves a mapping behind for each failed bio", nameof(BlockDeviceContract.N6_after_many_failed_transfers_a_queue_takes_its_full_depth)),
        Disk("N8", "forgets-at-removal", "does not end the bios that are in flight when it is removed", nameof(BlockDeviceContract.N8_a_removal_ends_every_bio_once)),
        Disk("N8", "forgets-at-reset", "does not end the bios that a reset cancels", nameof(BlockDeviceContract.N8_a_reset_ends_every_bio_once_and_the_queue_goes_on)),
        Disk("N8", "ends-twice-at-reset", "ends the bios that a reset cancels twice", nameof(BlockDeviceContract.N8_a_reset_ends_every_bio_once_and_the_queue_goes_on)),
        Disk("N8", "ends-twice-at-removal", "ends the bios that are in flight when it is removed twice", nameof(BlockDeviceContract.N8_a_removal_ends_every_bio_once)),
        Stack("N8", "loses-parts-without-room", "forgets parts for which its member has no room", nameof(BlockDeviceContract.B2_parts_that_wait_and_end_in_any_order_make_the_whole)),
        Disk("Q1", "takes-more-than-it-says", "takes one bio more than it says", nameof(BlockDeviceContract.Q1_a_queue_takes_the_first_and_leaves_the_rest)),
        Disk("Q1", "promises-room", "promises room that it does not have", nameof(BlockDeviceContract.Q1_room_that_was_promised_is_there)),
        Disk("Q2", "ends-more-than-told", "ends all that is done whatever number a poll is told", nameof(BlockDeviceContract.Q2_a_poll_ends_no_more_than_it_is_told)),
        Disk("Q2", "ends-when-taken", "ends bios when they are taken, and moves their data later", nameof(BlockDeviceContract.Q2_a_bio_has_not_ended_while_the_device_works_at_it)),
        new("Q2", "ends-before-it-moves", "ends bios on a thread of its own, and moves their data then", typeof(BlockDeviceContract), nameof(BlockDeviceContract.Q2_a_bio_has_not_ended_while_the_device_works_at_it), static f => new FaultyDiskTests(f, ",ends=backwards")),
        Disk("Q3", "calls-before", "interrupts before the data is moved, and not after", nameof(BlockDeviceContract.Q3_no_completion_is_without_a_call_after_it)),
        Disk("Q3", "calls-once-per-batch", "interrupts for the first bio of a batch only", nameof(BlockDeviceContract.Q3_no_completion_is_without_a_call_after_it)),
        Disk("Q4", "writes-when-read-only", "writes although it is read-only", nameof(BlockDeviceContract.Q4_a_read_only_device_refuses_writes_and_changes_nothing)),
        Disk("Q4", "refuses-flush", "refuses flushes", nameof(BlockDeviceContract.Q4_a_flush_succeeds)),
        Disk("Q4", "lives-on", "answers Ok after it was removed", nameof(BlockDeviceContract.Q4_a_removed_device_answers_ENODEV)),
        DiskAsImporter("T11", "keeps-maps-at-reset", "ends its requests at a reset and leaves the maps alive", nameof(ImporterContract.T11_a_reset_kills_the_maps)),
    ];

    private static Mutant DiskAsImporter(string rule, string fault, string does, string fact) =>
        new(rule, fault, does, typeof(ImporterContract), fact, static f => new FaultyDiskImporterTests(f));

    private static Mutant Disk(string rule, string fault, string does, string fact) =>
        new(rule, fault, does, typeof(BlockDeviceContract), fact, static f => new FaultyDiskTests(f));

    private static Mutant Stack(string rule, string fault, string does, string fact) =>
        new(rule, fault, does, typeof(BlockDeviceContract), fact, static f => new FaultyStackTests(f));
}
