using DmaBufIo.Errors;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <summary>What a registration with <see cref="TransferPolicy.AllowBounce"/> has besides the direct way, or in its place. Used by the ring's current owner only.</summary>
/// <param name="token">Through which the CPU sees the buffer.</param>
/// <param name="refusal">Why the registration has no direct way; null when it has one.</param>
internal sealed class BouncePath(DmaBufToken token, DmaBufIoException? refusal)
{
    private DmaBufIoException? _mapRefusal;
    private long _refusedAt; // the generation of the buffer

    internal DmaBufToken Token { get; } = token;

    /// <summary>What requests with the newest map of the CPU name it by.</summary>
    internal MapUse? Use { get; set; }

    /// <summary>The reason that bouncing cures an error for which a registration or a map was refused; None when it does not.</summary>
    internal static BounceReason ReasonFor(Errno status) => status switch
    {
        Errno.EOPNOTSUPP => BounceReason.NotMappable,
        Errno.EREMOTEIO => BounceReason.NoPeerToPeer,
        _ => BounceReason.None,
    };

    /// <summary>Why there is no direct way for the buffer where it is now; null when there may be one.</summary>
    internal DmaBufIoException? Refusal => refusal ?? (_refusedAt == Token.Buffer.Generation ? _mapRefusal : null);

    /// <summary>The driver has refused a map: it is asked again when the buffer has moved, for then it lies elsewhere.</summary>
    /// <param name="refused">What it said.</param>
    /// <param name="generation">The buffer's generation before it was asked.</param>
    internal void Refuse(DmaBufIoException refused, long generation)
    {
        _mapRefusal = refused;
        _refusedAt = generation;
    }
}
