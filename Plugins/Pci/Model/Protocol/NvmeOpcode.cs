namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>Admin command opcodes the controller knows.</summary>
internal static class AdminOpcode
{
    internal const byte DeleteSubmissionQueue = 0x00;
    internal const byte CreateSubmissionQueue = 0x01;
    internal const byte GetLogPage = 0x02;
    internal const byte DeleteCompletionQueue = 0x04;
    internal const byte CreateCompletionQueue = 0x05;
    internal const byte Identify = 0x06;
    internal const byte Abort = 0x08;
    internal const byte SetFeatures = 0x09;
    internal const byte GetFeatures = 0x0A;
    internal const byte AsyncEventRequest = 0x0C;

    /// <summary>All of them; the effects log is made from this list, so what is advertised and what is served cannot differ.</summary>
    internal static ReadOnlySpan<byte> All =>
    [
        DeleteSubmissionQueue, CreateSubmissionQueue, GetLogPage, DeleteCompletionQueue, CreateCompletionQueue,
        Identify, Abort, SetFeatures, GetFeatures, AsyncEventRequest,
    ];
}

/// <summary>NVM command set opcodes the controller knows.</summary>
internal static class IoOpcode
{
    internal const byte Flush = 0x00;
    internal const byte Write = 0x01;
    internal const byte Read = 0x02;
    internal const byte WriteZeroes = 0x08;
    internal const byte DatasetManagement = 0x09;

    /// <summary>All of them; see <see cref="AdminOpcode.All"/>.</summary>
    internal static ReadOnlySpan<byte> All => [Flush, Write, Read, WriteZeroes, DatasetManagement];
}
