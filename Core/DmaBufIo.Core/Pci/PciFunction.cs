using DmaBufIo.Dma;

namespace DmaBufIo.Pci;

/// <summary>
/// One PCI function as a driver sees it: identity, registers behind BARs, interrupts, function-level reset, and the
/// address space for its DMA. Implemented by in-process device models, vfio-user and VFIO.
/// </summary>
/// <remarks>
/// A driver owns the function from probe to removal. Register accesses may come from any thread; each is little-endian and of exactly the given width. Name, identity, address space, BARs and
/// the number of vectors do not change, also when the function is gone (C1). A function that is gone - removed, or disposed - reads all ones, ignores writes, does no DMA and calls no handler (C5).
/// </remarks>
public abstract class PciFunction : IDisposable
{
    /// <summary>A name for messages: the topology word or the bus address.</summary>
    public abstract string Name { get; }

    /// <summary>Vendor, device and class code from configuration space.</summary>
    public abstract PciIdentity Identity { get; }

    /// <summary>The addresses under which the function sees memory.</summary>
    public abstract DmaAddressSpace AddressSpace { get; }

    /// <summary>Where the function hangs in the PCI tree; null when that is not known. Constant. Its driver hands it on to the identity that attaches to buffers.</summary>
    public virtual Devices.DeviceLocation? Location => null;

    /// <summary>Number of MSI-X vectors, 0 when the function has none.</summary>
    public abstract int InterruptVectors { get; }

    /// <summary>Length of a base address register's region.</summary>
    /// <param name="bar">0 to 5.</param>
    /// <returns>Bytes, a power of two of 16 or more; 0 when the BAR is not implemented.</returns>
    public abstract long BarLength(int bar);

    /// <summary>Reads a register.</summary>
    /// <param name="bar">0 to 5.</param>
    /// <param name="offset">Byte offset, a multiple of 4.</param>
    /// <returns>The value; all ones when the function is gone, and where the offset is not within the BAR (C2): nobody answers there.</returns>
    public abstract uint Read32(int bar, long offset);

    /// <summary>Reads a 64-bit register; a function may serve it as two 32-bit accesses, lower half first.</summary>
    /// <param name="bar">0 to 5.</param>
    /// <param name="offset">Byte offset, a multiple of 8.</param>
    /// <returns>The value; all ones as for <see cref="Read32"/>.</returns>
    public virtual ulong Read64(int bar, long offset) => Read32(bar, offset) | ((ulong)Read32(bar, offset + 4) << 32);

    /// <summary>
    /// Writes a register. All memory writes of the caller before it are visible to the device when it sees the value. Ignored when the function is gone, and where the offset is not within the
    /// BAR (C2).
    /// </summary>
    /// <param name="bar">0 to 5.</param>
    /// <param name="offset">Byte offset, a multiple of 4.</param>
    /// <param name="value">The value.</param>
    public abstract void Write32(int bar, long offset, uint value);

    /// <summary>Writes a 64-bit register; a function may serve it as two 32-bit accesses, lower half first.</summary>
    /// <param name="bar">0 to 5.</param>
    /// <param name="offset">Byte offset, a multiple of 8.</param>
    /// <param name="value">The value.</param>
    public virtual void Write64(int bar, long offset, ulong value)
    {
        Write32(bar, offset, (uint)value);
        Write32(bar, offset + 4, (uint)(value >> 32));
    }

    /// <summary>Connects an interrupt vector. The handler runs on a thread of the device, or in <see cref="Advance"/>; it must not block. A reset leaves it connected.</summary>
    /// <param name="vector">0 to <see cref="InterruptVectors"/> - 1.</param>
    /// <param name="handler">Called once per interrupt message; null disconnects.</param>
    public abstract void SetInterruptHandler(int vector, Action? handler);

    /// <summary>
    /// Function-level reset: the function forgets everything but its configuration, and is as it was made; DMA under way has ended when it returns (C3). Nothing happens when the function is gone.
    /// </summary>
    public abstract void Reset();

    /// <summary>
    /// Lets an in-process device that has no thread of its own do the work its doorbells announced; called by the driver before it looks
    /// for completions. Devices with a thread, and real ones, do nothing.
    /// </summary>
    public virtual void Advance()
    {
    }

    /// <summary>
    /// What the device itself found wrong so far, one sentence each, oldest first: rules that commands broke, errors of its storage. Device models know;
    /// real devices answer nothing.
    /// </summary>
    public virtual IReadOnlyList<string> Problems => [];

    /// <summary>
    /// Gives the function back: DMA has ended and its threads have when it returns, what it holds is freed, its device has left the fabric, and it is gone (C5). The driver has unmapped everything
    /// before. Idempotent.
    /// </summary>
    public abstract void Dispose();
}

/// <summary>What configuration space says about a function.</summary>
/// <param name="Vendor">Vendor ID.</param>
/// <param name="Device">Device ID.</param>
/// <param name="ClassCode">Class, subclass and programming interface, for example 0x010802 for an NVMe controller.</param>
public readonly record struct PciIdentity(ushort Vendor, ushort Device, int ClassCode);
