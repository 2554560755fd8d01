using DmaBufIo.ContractTests.Tests.Own;

namespace DmaBufIo.ContractTests.Tests.Mutants;

/// <summary>Faulty files.</summary>
internal static class FileMutants
{
    internal static IReadOnlyList<Mutant> All { get; } =
    [
        Of("B5", "never-looks-at-direct", "does not look whether direct I/O was switched off", nameof(FileContract.B5_direct_io_is_looked_at_again_for_every_request)),
        Of("B5", "looks-at-direct-once", "remembers from its opening whether it does direct I/O", nameof(FileContract.B5_direct_io_is_looked_at_again_for_every_request)),
        Of("R2", "reads-past-its-end", "does not cut a read at the end of the file", nameof(FileContract.R2_a_read_at_the_end_of_the_file_is_short)),
        Of("R2", "finds-space-beyond-its-end", "answers success of no bytes to a write beyond the end", nameof(FileContract.R2_a_write_at_the_end_of_the_file_is_short_or_finds_no_space)),
        Of("R2", "rounds-what-is-not-aligned", "rounds a length down to whole blocks", nameof(FileContract.R2_unaligned_requests_are_refused)),
        Of("R2", "writes-what-is-read-only", "writes a file that is opened for reading", nameof(FileContract.R2_a_file_opened_for_reading_refuses_writes)),
        Of("R4", "fails-when-it-is-full", "ends a request with an error when a device has no room", nameof(FileContract.R4_a_request_that_finds_no_room_waits_without_a_map)),
        Of("R4", "counts-what-was-not-taken", "goes on behind a bio that a device did not take", nameof(FileContract.R4_many_requests_on_a_device_with_little_room_all_end_once)),
        Of("R4", "begins-again-when-it-is-full", "issues a request from its beginning when there is room again", nameof(FileContract.R4_a_request_of_many_bios_goes_on_where_it_stopped)),
        Of("R4", "flushes-the-first-disk-only", "flushes one of its devices", nameof(FileContract.R4_a_flush_reaches_every_device_and_waits_for_each)),
        Of("R4", "acknowledges-flushes-at-once", "ends a flush before its devices have", nameof(FileContract.R4_a_flush_reaches_every_device_and_waits_for_each)),
        Of("R4", "forgets-flushes-without-room", "forgets the flush of a device that has no room for it", nameof(FileContract.R4_a_flush_that_finds_no_room_is_not_lost)),
        Of("I2", "advances-by-what-it-wanted", "advances by more than a device takes at once", nameof(FileContract.I2_reads_bring_the_bytes_of_the_file_to_their_place)),
        Of("I2", "forgets-its-place-in-the-file", "issues every piece of a request at the request's first byte in the file", nameof(FileContract.I2_writes_bring_the_bytes_of_the_buffer_to_their_place)),
        Of("I5", "uses-the-first-disks-map", "gives every device the map of the first", nameof(FileContract.I5_every_device_is_given_its_own_map)),
        Of("I5", "gives-disks-the-composite", "gives a device the map of all of them together", nameof(FileContract.I5_every_device_is_given_its_own_map)),
        Of("I6", "takes-ranges-as-one", "takes several ranges as one that begins with the first", nameof(FileContract.I6_a_read_into_several_ranges_fills_them_in_order)),
        Of("I6", "begins-each-range-at-the-start", "begins every range at the request's first byte in the file", nameof(FileContract.I6_a_write_from_several_ranges_takes_them_in_order)),
        Of("T2", "takes-a-reference-on-itself", "takes a reference on itself for every queue, and does not drop it", nameof(FileContract.T2_a_file_lives_until_its_registrations_end)),
        Of("T2", "leaves-queues-open", "closes the queue of one of its devices", nameof(FileContract.T2_what_a_file_has_opened_on_its_devices_it_closes)),
        Of("T11", "does-not-say-that-it-is-gone", "does not say that its devices are gone", nameof(FileContract.T11_a_file_whose_devices_are_gone_says_so)),
    ];

    private static Mutant Of(string rule, string fault, string does, string fact) => new(rule, fault, does, typeof(FileContract), fact, static fault => new Contract(fault));

    private sealed class Contract(string? fault) : FileContract(new FaultyFileFixture(fault));
}
