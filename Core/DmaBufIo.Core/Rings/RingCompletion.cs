using System.Text;
using DmaBufIo.Errors;

namespace DmaBufIo.Rings;

/// <summary>How a request ended.</summary>
/// <param name="UserData">The value given with the request.</param>
/// <param name="Status"><c>Ok</c>, or the first error.</param>
/// <param name="Bytes">Bytes transferred; fewer than asked for at the end of the file.</param>
public readonly record struct RingCompletion(ulong UserData, Errno Status, long Bytes)
{
    private readonly long _how = (uint)Status; // status and reason: one word, stored at once

    /// <summary><c>Ok</c>, or the first error.</summary>
    public Errno Status
    {
        get => (Errno)(int)_how;
        init => _how = (_how & ~0xFFFF_FFFFL) | (uint)value;
    }

    /// <summary>Why it went through the bounce pool; <see cref="BounceReason.None"/> for a direct request. Never left out: a copy is not silent.</summary>
    public BounceReason Bounce
    {
        get => (BounceReason)(byte)(_how >> 32);
        init => _how = (uint)_how | ((long)value << 32);
    }

    private bool PrintMembers(StringBuilder text)
    {
        text.Append($"UserData = {UserData}, Status = {Status}, Bytes = {Bytes}");
        if (Bounce != BounceReason.None)
            text.Append($", Bounce = {Bounce}");
        return true;
    }
}
