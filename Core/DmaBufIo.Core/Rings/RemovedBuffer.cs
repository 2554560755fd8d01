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
        if (_registration is { Token: null, AnyToken: { } paged })
        {
            Errno status = WaitPaged(paged, cancellationToken);
            if (status != Errno.Ok)
                return status;
        }

        foreach (DmaBufToken token in _registration.Tokens)
        {
            Errno waited = token.WaitReleased(cancellationToken);
            if (waited != Errno.Ok)
                return waited;
        }

        if (_registration.Released is not { } released)
            return Errno.Ok;
        var wait = new PollingWait(new WaitReason($"requests of a removed registration of {_context.Name}"));
        while (true)
        {
            if (!released.IsDone)
                _context.ReapAsVisitor();
            Errno status = released.Wait(ref wait, cancellationToken);
            if (status != Errno.EAGAIN)
                return status;
        }
    }

    // Its requests hold no references that would lead to their queue: the ring's are reaped until the last of them has ended.
    private Errno WaitPaged(DmaBufToken token, CancellationToken cancellationToken)
    {
        var wait = new PollingWait(new WaitReason($"requests of a removed registration of {_context.Name}"));
        var nobody = new WaitQueue();
        while (!token.IsReleasing)
        {
            _context.ReapAsVisitor();
            if (wait.Pause(nobody, () => token.IsReleasing, cancellationToken) == Errno.EINTR)
                return Errno.EINTR;
        }

        return token.WaitReleased(cancellationToken);
    }
}
