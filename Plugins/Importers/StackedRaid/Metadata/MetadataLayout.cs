namespace DmaBufIo.Importers.StackedRaid.Metadata;

/// <summary>
/// Where a mirror keeps what it knows of itself: in the last 64 KiB of each member, so that the data begins at 0 and a single member can be read like any device.
/// Two places each for the superblock and the record of intents, written in turn: a torn write leaves the other. A superblock goes where the member's newest does not lie.
/// </summary>
internal static class MetadataLayout
{
    /// <summary>Bytes of a superblock, a record of intents, and their places: no device writes less of a block than it is given, or tears one of these unseen.</summary>
    internal const int BlockSize = 4096;

    /// <summary>Bytes at the end of each member.</summary>
    internal const long TailSize = 64 << 10;

    /// <summary>First byte of the tail of a member, a multiple of 4096.</summary>
    internal static long TailOf(long memberCapacity) => (memberCapacity - TailSize) & -BlockSize;

    /// <summary>The superblock's place: by the lowest bit of its number while none was missed.</summary>
    internal static long SuperblockAt(long tail, ulong sequence) => tail + ((long)(sequence & 1) * BlockSize);

    /// <summary>The place of the record of intents.</summary>
    internal static long IntentsAt(long tail, ulong sequence) => tail + (2 * BlockSize) + ((long)(sequence & 1) * BlockSize);
}
