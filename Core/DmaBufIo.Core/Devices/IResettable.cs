using DmaBufIo.Errors;

namespace DmaBufIo.Devices;

/// <summary>
/// A device that can be reset under load (T11). A driver bound to a PCI function and a network card are; a block device that a plugin makes itself
/// may be, and the host then finds the interface on it.
/// </summary>
public interface IResettable
{
    /// <summary>
    /// Resets the device, with requests in flight. Those that the device has end once, with <see cref="Errno.ECANCELED"/> or with what became of them before the reset reached them: the driver
    /// does not issue them again, for a request put back would keep its map (T11, N8). Maps are killed after that and not waited for (<see cref="DmaDevice.KillMaps"/>): the next request makes a new
    /// one. Registrations, queues and what the device has stored stay. Returns when the device takes requests again.
    /// </summary>
    /// <remarks>
    /// Control path: any thread, several at once, none of them in completion context, in a batch of a ring, or while it holds a reservation lock or a reference on a map (T15). May sleep, for the DMA that is under
    /// way and for owners to leave their batch (<see cref="Io.ContextSet.VisitAll"/>), never for a map to be drained or unmapped: the owner of a buffer may be waiting for these very requests with the lock held.
    /// </remarks>
    /// <exception cref="DmaBufIoException">The device was removed (<c>ENODEV</c>), or does not come back (<c>EIO</c>, <c>ETIMEDOUT</c>): its requests have ended all the same.</exception>
    void Reset();
}
