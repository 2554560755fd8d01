using DmaBufIo.DmaBufs;
using DmaBufIo.Sync;

namespace DmaBufIo.Tests;

internal static class Holding
{
    /// <summary>Takes the lock; the end of the test run interrupts the wait.</summary>
    internal static ReservationGuard Hold(this ReservationObject reservation, AcquireContext? context = null) =>
        reservation.Lock(context, TestContext.Current.CancellationToken);
}
