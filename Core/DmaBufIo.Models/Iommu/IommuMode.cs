namespace DmaBufIo.Models.Iommu;

/// <summary>How the modelled IOMMU translates and when it invalidates, named as the kernel's boot options name it.</summary>
public enum IommuMode
{
    /// <summary>Page tables; every unmap invalidates the IOTLB and waits for DMA under way (<c>iommu.strict=1</c>).</summary>
    Strict,

    /// <summary>
    /// Page tables; unmapped ranges gather on a flush queue and the IOTLB may serve them until it is flushed
    /// (<c>iommu.strict=0</c>).
    /// </summary>
    Lazy,

    /// <summary>
    /// No translation: device addresses are physical addresses (<c>iommu.passthrough=1</c>). The shadow record still knows what
    /// is mapped.
    /// </summary>
    Passthrough,
}
