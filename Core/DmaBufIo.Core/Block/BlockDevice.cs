using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Block;

/// <summary>Something with numbered sectors: a namespace of a controller, a RAID set. The token operation belongs here, not to the queue, so that stacking devices can have it (B6).</summary>
/// <remarks>
/// One that a factory makes (<see cref="Plugins.IBlockDeviceFactory"/>) may also be <see cref="IDisposable"/>: closing it removes it; and <see cref="Devices.IResettable"/>: it can be reset under load (T11). A PCI driver's namespaces
/// are removed and reset with their controller, by its binding.
/// </remarks>
public abstract class BlockDevice
{
    /// <summary>A name for messages, for example "nvme0n1".</summary>
    public abstract string Name { get; }

    /// <summary>Size in bytes, a multiple of the logical block size.</summary>
    public abstract long Capacity { get; }

    /// <summary>What it accepts in one bio.</summary>
    public abstract QueueLimits Limits { get; }

    /// <summary>True when writes are refused (<c>EROFS</c>).</summary>
    public virtual bool IsReadOnly => false;

    /// <summary>True once the device is gone: bios end with <c>ENODEV</c>.</summary>
    public abstract bool IsRemoved { get; }

    /// <summary>One line for people: model, serial number, what it stands on.</summary>
    public abstract string Description { get; }

    /// <summary>Opens a queue for a context. May sleep.</summary>
    /// <param name="context">Whose current owner alone uses the queue.</param>
    /// <param name="bios">The context's bios.</param>
    /// <param name="depth">How many bios the caller wants in flight; the device may give less.</param>
    /// <returns>The queue; the caller disposes it after its bios have ended.</returns>
    /// <exception cref="DmaBufIoException">The device is gone (<c>ENODEV</c>) or has no queue left (<c>EBUSY</c>).</exception>
    public abstract BlockQueue OpenQueue(IoContext context, BioPool bios, int depth);

    /// <summary>The token operation: the driver's part of a registration of a buffer (T1). Devices that cannot take registered buffers leave it out.</summary>
    /// <param name="buffer">The buffer.</param>
    /// <param name="direction">The transfers.</param>
    /// <returns>The driver's part, not set up yet; null when the device has no such operation.</returns>
    public virtual TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => null;
}

/// <summary>
/// A device's queue for one context. All members are called by the context's current owner; none may sleep but <see cref="TryEnableInterrupts"/> and
/// <see cref="Dispose"/>.
/// </summary>
public abstract class BlockQueue : IDisposable
{
    /// <summary>Takes bios, in order. Each obeys the device's limits. A bio that fails at once is taken too, and ends with its error (N6).</summary>
    /// <param name="bios">The bios.</param>
    /// <returns>How many were taken; the others stay the caller's: there is no room for them now. When it throws, it has taken none.</returns>
    public abstract int Submit(ReadOnlySpan<BioHandle> bios);

    /// <summary>
    /// <see cref="Submit"/> for those who stand on the queue: bios that it threw at end with <c>EIO</c> as if it had taken them, and the exception is reported
    /// (<see cref="DmaBufIoDiagnostics.DriverFaulted"/>). A driver's mistake costs requests, and nothing else.
    /// </summary>
    /// <param name="pool">The pool that the queue was opened with.</param>
    /// <param name="bios">The bios.</param>
    /// <param name="name">Whose queue it is, for the report.</param>
    /// <returns>How many were taken, or ended.</returns>
    [HotPath]
    public int SubmitOrFail(BioPool pool, ReadOnlySpan<BioHandle> bios, string name)
    {
        try
        {
            return Submit(bios);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // It has taken none of them, by its contract.
            DmaBufIoDiagnostics.Report(new DriverFault($"Submit of {name}", e));
            foreach (BioHandle bio in bios)
                pool.End(bio, Errno.EIO);
            return bios.Length;
        }
    }

    /// <summary>
    /// Bios that the next <see cref="Submit"/> takes for certain, so that a caller may gather them first. 0 when that is not known.
    /// </summary>
    public virtual int Room => 0;

    /// <summary>Tells the device about everything taken since the last call: one doorbell for the batch.</summary>
    public abstract void Commit();

    /// <summary>Ends the bios that the device has completed (<see cref="BioPool.End"/>).</summary>
    /// <param name="max">At most this many. A queue that stands on others hands the number on to each of them, and may end more.</param>
    /// <returns>How many.</returns>
    public abstract int Poll(int max);

    /// <summary>Asks the device to interrupt when it has completed bios of the queue. Called at most once, before the first bio; may sleep.</summary>
    /// <param name="handler">
    /// Called on any thread, in completion context: it does not block. For every completion a call begins after <see cref="Poll"/> would find it; one call
    /// may stand for many, and one too many does no harm. Called as well when a queue that has refused bios has room for them again and no completion will tell of it (after a reset).
    /// </param>
    /// <returns>False when the device has no interrupts, or none left: the queue can only be polled.</returns>
    /// <exception cref="DmaBufIoException">The device does not obey (<c>EIO</c>) or is gone (<c>ENODEV</c>); the queue is only good for <see cref="Dispose"/> then.</exception>
    public virtual bool TryEnableInterrupts(Action handler) => false;

    /// <summary>Closes the queue. No bio is in flight. May sleep.</summary>
    public abstract void Dispose();
}
