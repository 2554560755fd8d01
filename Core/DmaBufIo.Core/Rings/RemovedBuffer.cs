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

    /// <summary>The registration's token; null when it was mapped per request.</summary>
    public DmaBufToken? Token => _registration.Token;

    /// <summary>True once no request uses it, nothing of it is mapped, and its references are dropped.</summary>
    public bool IsReleased => _registration.Token?.IsReleased ?? _registration.Released!.IsDone;

    /// <summary>Waits until nothing of the registration is left: requests ended, mappings undone, references dropped. The memory of a <see cref="BufferRegistration.Memory"/> may be disposed then.</summary>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>, or <c>EINTR</c> when cancelled.</returns>
    /// <remarks>Reaps queues while it waits (T14). Requests that are parked for want of room are their ring's to submit again.</remarks>
    public Errno WaitReleased(CancellationToken cancellationToken = default)
    {
        if (_registration.Token is { } token)
            return token.WaitReleased(cancellationToken);
        var wait = new PollingWait(new WaitReason($"requests of a removed registration of {_context.Name}"));
        Completion released = _registration.Released!;
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
