using System.Text;
using DmaBufIo.Errors;

namespace DmaBufIo.Rings;

/// <summary>How an awaited request ended.</summary>
/// <param name="Status">
/// <c>Ok</c>, or the first error. <c>EAGAIN</c>: it was not taken or not issued, and may be asked for again; <c>EINTR</c>: it was cancelled
/// before it was issued; <c>ETIMEDOUT</c>: its time was up before it was issued, or the device did not answer.
/// </param>
/// <param name="Bytes">Bytes transferred; fewer than asked for at the end of the file.</param>
public readonly record struct IoStatus(Errno Status, long Bytes)
{
    private readonly long _how = (uint)Status; // as in RingCompletion

    /// <summary><c>Ok</c>, or the first error.</summary>
    public Errno Status
    {
        get => (Errno)(int)_how;
        init => _how = (_how & ~0xFFFF_FFFFL) | (uint)value;
    }

    /// <summary>Why it went through the bounce pool; <see cref="BounceReason.None"/> for a direct request.</summary>
    public BounceReason Bounce
    {
        get => (BounceReason)(byte)(_how >> 32);
        init => _how = (uint)_how | ((long)value << 32);
    }

    private bool PrintMembers(StringBuilder text)
    {
        text.Append($"Status = {Status}, Bytes = {Bytes}");
        if (Bounce != BounceReason.None)
            text.Append($", Bounce = {Bounce}");
        return true;
    }
}
