namespace DmaBufIo.Diagnostics;

/// <summary>Totals of the process since its start: rare events only; requests are counted by their rings.</summary>
public static class Counters
{
    /// <summary>Maps made by tokens.</summary>
    public static Counter Maps { get; } = new();

    /// <summary>Maps given up again.</summary>
    public static Counter Unmaps { get; } = new();

    /// <summary>Tokens created.</summary>
    public static Counter Tokens { get; } = new();

    /// <summary>Tokens whose release has finished.</summary>
    public static Counter TokensReleased { get; } = new();

    /// <summary>Process-wide barriers that killers of maps and visitors of contexts have paid, because somebody did not answer by himself.</summary>
    public static Counter Barriers { get; } = new();

    /// <summary>Parts of requests that failed on a member of a set.</summary>
    public static Counter MemberFaults { get; } = new();

    /// <summary>
    /// Bytes that the CPU has copied into or out of the memory of requests (<see cref="Iov.IovIter.CopyTo"/>, <see cref="Iov.IovIter.CopyFrom"/>), or between a registered buffer and a
    /// ring's bounce pool. Direct requests never add to it (I4).
    /// </summary>
    public static Counter BytesCopied { get; } = new();

    /// <summary>Driver callbacks that threw where nobody can be told.</summary>
    public static Counter DriverFaults { get; } = new();
}
