namespace DmaBufIo.Models.Iommu;

/// <summary>What one entry of the invalidation queue asks the IOMMU to do.</summary>
internal enum InvalidationKind
{
    /// <summary>Drop the IOTLB entries of a range.</summary>
    Range,

    /// <summary>Drop all IOTLB entries of the domain.</summary>
    Global,

    /// <summary>Write the status of a wait: everything queued before it was done.</summary>
    Wait,
}

/// <summary>One entry of the invalidation queue, as in VT-d's queued invalidation.</summary>
/// <param name="Kind">What to do.</param>
/// <param name="Start">First device address of a range; the number of a wait.</param>
/// <param name="End">First device address after a range.</param>
internal readonly record struct InvalidationDescriptor(InvalidationKind Kind, ulong Start, ulong End);
