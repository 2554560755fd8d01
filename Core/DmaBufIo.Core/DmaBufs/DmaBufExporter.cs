using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.DmaBufs;

/// <summary>
/// The owner of one buffer's memory: maps it for attached devices, says what it is made of, and may move it. One object per buffer.
/// </summary>
/// <remarks>
/// To move: take the reservation lock; <see cref="DmaBuf.InvalidateMappings"/>; wait for the fences of class <see cref="FenceUsage.Bookkeep"/>
/// (the fenced design leaves one per map); only then touch the old memory (F6, F7).
/// </remarks>
public abstract class DmaBufExporter
{
    /// <summary>Maps the whole buffer for the attached device. Called with the reservation lock held; may sleep; must not wait for anything that needs that lock (F3, D1).</summary>
    /// <param name="attachment">Device and buffer.</param>
    /// <param name="direction">The accesses the device needs.</param>
    /// <param name="held">Proof that the lock is held.</param>
    /// <returns>The table. On failure nothing stays mapped.</returns>
    public abstract SgTable Map(DmaAttachment attachment, DmaDirection direction, in HeldReservation held);

    /// <summary>Undoes <see cref="Map"/>. Called with the reservation lock held; may sleep.</summary>
    /// <param name="table">A table that <see cref="Map"/> returned, once.</param>
    /// <param name="held">Proof that the lock is held.</param>
    public abstract void Unmap(SgTable table, in HeldReservation held);

    /// <summary>A static attachment wants the buffer to stay where it is. Counted by Core: called for the first one. The default allows it.</summary>
    /// <param name="held">Proof that the lock is held.</param>
    public virtual void Pin(in HeldReservation held)
    {
    }

    /// <summary>The last static attachment is gone.</summary>
    /// <param name="held">Proof that the lock is held.</param>
    public virtual void Unpin(in HeldReservation held)
    {
    }

    /// <summary>
    /// True when no fence that this exporter adds needs the reservation lock to signal, nor anything that waits for it (D1). Then maps wait for its jobs with the lock held, where no new job
    /// can come; else without it, and a buffer that always has a job keeps its requests waiting.
    /// </summary>
    public virtual bool FencesNeedNoLock => false;

    /// <summary>What the buffer is made of now.</summary>
    public abstract BufferBacking Describe();

    /// <summary>The last reference to the buffer is gone: frees the memory. No attachment is left. Called once, without the lock, never in completion context.</summary>
    public abstract void Release();

    /// <summary>Maps memory ranges for an attachment, one after another; undoes what it did when one fails. For exporters whose memory is host memory.</summary>
    /// <param name="attachment">Device and buffer.</param>
    /// <param name="direction">The accesses the device needs.</param>
    /// <param name="memory">The buffer's memory in order.</param>
    /// <param name="placement">Where it lies, and why there; null for main memory, where the exporter has no other.</param>
    /// <returns>The table.</returns>
    protected static SgTable MapMemory(DmaAttachment attachment, DmaDirection direction, IReadOnlyList<MemoryRange> memory, BufferPlacement? placement = null)
    {
        DmaAddressSpace space = attachment.Device.AddressSpace;
        var ranges = new List<DeviceRange>(memory.Count);
        try
        {
            foreach (MemoryRange range in memory)
                ranges.Add(space.Map(range, direction, attachment.Buffer.Name, attachment.Buffer.Generation));
        }
        catch
        {
            space.Unmap(ranges.ToArray());
            throw;
        }

        var table = new SgTable(attachment, direction, ranges.ToArray());
        return placement is { } place ? table.At(place) : table;
    }

    /// <summary>Undoes <see cref="MapMemory"/>.</summary>
    /// <param name="table">The table.</param>
    protected static void UnmapMemory(SgTable table)
    {
        // MapMemory made them all through one space: one wait for its hardware ends them together.
        DeviceRange[] ranges = table.Ranges as DeviceRange[] ?? [.. table.Ranges];
        if (ranges.Length != 0)
            ranges[0].Space.Unmap(ranges);
    }
}

/// <summary>What a buffer is made of, so that an importer can say why it cannot map it.</summary>
/// <param name="Kind">Where the memory is.</param>
/// <param name="Ranges">The memory in buffer order, when it is host memory; else empty.</param>
/// <param name="CanMove">True when the exporter may move it while it is attached dynamically.</param>
public sealed record BufferBacking(BackingKind Kind, IReadOnlyList<MemoryRange> Ranges, bool CanMove);

/// <summary>Where a buffer's memory is.</summary>
public enum BackingKind
{
    /// <summary>Host memory in a memory file, shareable by descriptor.</summary>
    HostMemory,

    /// <summary>Host memory exported through the kernel's /dev/udmabuf.</summary>
    KernelUdmabuf,

    /// <summary>Memory on a device.</summary>
    DeviceMemory,
}
