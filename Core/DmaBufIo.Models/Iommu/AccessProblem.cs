namespace DmaBufIo.Models.Iommu;

/// <summary>What the translation of an access found wrong with it.</summary>
internal enum AccessProblem
{
    None,

    /// <summary>Served although its mapping has ended: by an IOTLB not flushed yet, or because nothing translates.</summary>
    ServedAfterUnmap,

    /// <summary>Served without translation although the device never had a mapping there.</summary>
    ServedUnmapped,

    /// <summary>Served without translation against the direction of its mapping.</summary>
    ServedAgainstDirection,

    /// <summary>Served through a live mapping, but the contents of the memory live elsewhere.</summary>
    DeadMemory,

    /// <summary>Refused: nothing is mapped there.</summary>
    NotMapped,

    /// <summary>Refused: the entry does not permit the direction.</summary>
    WrongDirection,

    /// <summary>Refused: the memory behind the address was freed.</summary>
    MemoryGone,

    /// <summary>Refused: the address has more bits than the device drives.</summary>
    BeyondAddressWidth,

    /// <summary>Refused: the device was removed.</summary>
    DeviceRemoved,
}

/// <summary>The words of a report, by problem.</summary>
internal static class AccessProblems
{
    private const string Drain =
        "Let no request use a map after its invalidation has returned (draining) or its fence has signalled (fenced)";

    public static bool IsServed(this AccessProblem problem) => problem < AccessProblem.NotMapped;

    public static IommuReportKind KindOf(AccessProblem problem, MappingRecord? record)
    {
        if (problem.IsServed())
            return IommuReportKind.Stale;
        bool stale = problem == AccessProblem.MemoryGone || record is { Ended: true };
        return stale ? IommuReportKind.Both : IommuReportKind.Fault;
    }

    public static (string Reason, string? Rule, string Remedy) Describe(AccessProblem problem, MappingRecord? record, IommuMode mode)
    {
        return problem switch
        {
            AccessProblem.ServedAfterUnmap when mode == IommuMode.Lazy =>
                ("the mapping had ended; an IOTLB entry that was not flushed yet served it", "F7", Drain),
            AccessProblem.ServedAfterUnmap =>
                ("the mapping had ended; without translation the memory was reached all the same", "F7", Drain),
            AccessProblem.ServedUnmapped =>
                ("no mapping of the device covers the address; without translation the memory was reached all the same", "F7",
                    "Map the memory for this device before it is used, and unmap it after the last request"),
            AccessProblem.ServedAgainstDirection =>
                (
                    $"the mapping permits {record?.Direction} only; without translation nothing refused it",
                    "T1",
                    "Map the memory for the direction of the transfer"),
            AccessProblem.DeadMemory =>
                ("the memory is dead, its contents were moved while the mapping was live", "F7", Drain),
            AccessProblem.NotMapped when record is not null =>
                ("the mapping had ended", "F7", Drain),
            AccessProblem.NotMapped =>
                ("nothing is mapped at the address, and the history holds no mapping that was", null,
                    "Check the address in the command, and that the range was mapped for this device"),
            AccessProblem.WrongDirection =>
                ($"the mapping permits {record?.Direction} only", "T1", "Map the memory for the direction of the transfer"),
            AccessProblem.MemoryGone =>
                ("the memory behind the address was freed", "F7", "Free memory only after every mapping of it was unmapped and flushed"),
            AccessProblem.BeyondAddressWidth =>
                (
                    "the address has more bits than the device drives",
                    null,
                    "Check the address in the command; AddressBits is the device's DMA mask"),
            AccessProblem.DeviceRemoved =>
                ("the device was removed", "T11", "Stop the device before its address space is removed"),
            _ => throw new ArgumentOutOfRangeException(nameof(problem), problem, "A report needs a problem."),
        };
    }
}
