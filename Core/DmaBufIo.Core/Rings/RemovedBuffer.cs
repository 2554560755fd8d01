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
    public DmaBufToken? Token => _registration.Token;

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
}
