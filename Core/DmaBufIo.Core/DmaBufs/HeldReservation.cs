using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.DmaBufs;

/// <summary>Holds a reservation lock; disposing gives it back. A ref struct: it cannot outlive the stack frame or move to another thread.</summary>
public readonly ref struct ReservationGuard : IDisposable
{
    private readonly ReservationObject? _reservation;
    private readonly AcquireContext? _context;

    internal ReservationGuard(ReservationObject reservation, AcquireContext? context)
    {
        _reservation = reservation;
        _context = context;
    }

    /// <summary>Proof that the lock is held, to be passed on by <c>in</c>.</summary>
    public HeldReservation Held => _reservation is null
        ? throw new InvalidOperationException("The reservation lock was not taken.")
        : new HeldReservation(_reservation, _context);

    /// <summary>Gives the lock back.</summary>
    public void Dispose() => _reservation?.Unlock();
}

/// <summary>
/// Proof that a reservation lock is held (T5): only a <see cref="ReservationGuard"/> makes one, and as a ref struct it cannot be kept.
/// </summary>
public readonly ref struct HeldReservation
{
    private readonly ReservationObject _reservation;

    internal HeldReservation(ReservationObject reservation, AcquireContext? context)
    {
        _reservation = reservation;
        Context = context;
    }

    /// <summary>The object whose lock is held.</summary>
    public ReservationObject Reservation => _reservation;

    /// <summary>The acquire context with which it is held, or null. Waits under the lock should pass it on, so that they end when it is wounded.</summary>
    public AcquireContext? Context { get; }

    /// <summary>Throws unless this is the lock of the given object, held by this thread.</summary>
    /// <param name="reservation">The object whose lock the caller needs.</param>
    /// <exception cref="DmaBufIoException">Another object's lock, or given back already (<c>EINVAL</c>, T5).</exception>
    public void AssertFor(ReservationObject reservation)
    {
        if (!ReferenceEquals(_reservation, reservation) || !reservation.IsHeldByCurrentThread)
        {
            throw new DmaBufIoException(
                Errno.EINVAL,
                "DmaBufs",
                $"reservation object of {reservation.Name}",
                _reservation is null ? "its lock is not held" : $"the lock of {_reservation.Name} is held, not this one's, or it was given back",
                "Call this with the buffer's own reservation lock held",
                rule: "T5");
        }
    }
}
