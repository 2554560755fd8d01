using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <summary>A registration that was taken out of its slot: tells when nothing of it is left, so that the memory may be freed.</summary>
public sealed class RemovedBuffer
{
    private readonly Registration _registration;
    private readonly IoContext _context;

    internal RemovedBuffer(Registration registration, IoContext context)
    {
        _registration = registration;
        _context = context;
    }

    /// <summary>The registration's token; null when it was mapped per request, or every request was bounced.</summary>
    public DmaBufToken? Token => _registration.AnyToken;

    /// <summary>The token through which the CPU saw the buffer; null without <see cref="TransferPolicy.AllowBounce"/>.</summary>
    public DmaBufToken? BounceToken => _registration.Bounce?.Token;

    /// <summary>True once no request uses it, nothing of it is mapped, and its references are dropped.</summary>
    public bool IsReleased => _registration.Tokens.All(static t => t.IsReleased) && _registration.Released is not { IsDone: false };

    /// <summary>
    /// Waits until nothing of the registration is left: requests ended, mappings undone, references dropped. The memory of a
    /// <see cref="BufferRegistration.Memory"/> may be disposed then.
    /// </summary>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>, or <c>EINTR</c> when cancelled.</returns>
    /// <remarks>Reaps queues while it waits (T14). Requests that are parked for want of room are their ring's to submit again.</remarks>
    public Errno WaitReleased(CancellationToken cancellationToken = default)
    {
        // Requests that hold no reference on the token that would be waited for, but one on another or none: the ring's are reaped until the last of them has ended.
        if (_registration.Token is null || _registration.Bounce is not null)
        {
            Errno ended = WaitEnded(cancellationToken);
            if (ended != Errno.Ok)
                return ended;
        }

        foreach (DmaBufToken token in _registration.Tokens)
        {
            Errno waited = token.WaitReleased(cancellationToken);
            if (waited != Errno.Ok)
                return waited;
        }

        return Errno.Ok;
    }

    private Errno WaitEnded(CancellationToken cancellationToken)
    {
        var wait = new PollingWait(new WaitReason($"requests of a removed registration of {_context.Name}"));
        var nobody = new WaitQueue();
        while (!HasEnded())
        {
            _context.ReapAsVisitor();
            if (wait.Pause(nobody, HasEnded, cancellationToken) == Errno.EINTR)
                return Errno.EINTR;
        }

        return Errno.Ok;
    }

    // All that it has is given back at once, when its last request has ended.
    private bool HasEnded() => _registration.Tokens.FirstOrDefault() is not { IsReleasing: false } && _registration.Released is not { IsDone: false };
}
