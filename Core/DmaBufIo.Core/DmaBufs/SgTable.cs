using DmaBufIo.Dma;

namespace DmaBufIo.DmaBufs;

/// <summary>The attached device's view of a buffer: (device address, length) in buffer order, made by the exporter.</summary>
/// <remarks>
/// Shared by everyone who maps the same attachment in the same direction while the buffer's generation lasts, and counted: the exporter unmaps it
/// when the last of them has given it back. An invalidation advances the generation, so a table that was killed is never handed out again.
/// </remarks>
public sealed class SgTable
{
    /// <summary>Creates the table; called by exporters.</summary>
    /// <param name="attachment">For which device and buffer.</param>
    /// <param name="direction">The accesses the device is allowed.</param>
    /// <param name="ranges">The mappings in buffer order; their lengths add up to the buffer's size.</param>
    public SgTable(DmaAttachment attachment, DmaDirection direction, IReadOnlyList<DeviceRange> ranges)
    {
        Attachment = attachment;
        Direction = direction;
        Ranges = ranges;
        Generation = attachment.Buffer.Generation;
    }

    /// <summary>For which device and buffer.</summary>
    public DmaAttachment Attachment { get; }

    /// <summary>The accesses the device is allowed.</summary>
    public DmaDirection Direction { get; }

    /// <summary>The mappings in buffer order. Neighbours may be contiguous in device addresses.</summary>
    public IReadOnlyList<DeviceRange> Ranges { get; }

    /// <summary>The buffer's generation when the table was made.</summary>
    public long Generation { get; }

    /// <summary>Where the memory lay when the table was made, and why there: said by exporters whose memory may lie in several places.</summary>
    public BufferPlacement Placement { get; private set; } = new(PlacementKind.SystemMemory, "the exporter's memory is main memory");

    /// <summary>Says where the memory lies. Called by the exporter before it hands the table out.</summary>
    /// <param name="placement">Where, and why there.</param>
    /// <returns>The table.</returns>
    public SgTable At(BufferPlacement placement)
    {
        Placement = placement;
        return this;
    }

    /// <summary>How many maps use the table; guarded by the reservation lock.</summary>
    internal int Users { get; set; }
}
