namespace DmaBufIo.Models.Iommu;

/// <summary>What was wrong with an access.</summary>
[Flags]
public enum IommuReportKind
{
    /// <summary>Nothing; no report has it.</summary>
    None = 0,

    /// <summary>The access was refused: the device got an error and no byte was moved from the reported address on.</summary>
    Fault = 1,

    /// <summary>
    /// No live mapping stood for the access, or the memory behind it was dead (F7); without <see cref="Fault"/> it was served,
    /// as hardware would.
    /// </summary>
    Stale = 2,

    /// <summary>A stale access that was refused.</summary>
    Both = Fault | Stale,
}
