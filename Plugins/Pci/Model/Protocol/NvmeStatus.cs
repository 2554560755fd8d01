namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>Status codes: the type (SCT) in bits 10:8, the code (SC) in bits 7:0. The completion adds More and Do Not Retry.</summary>
internal static class NvmeStatus
{
    internal const ushort Success = 0x000;
    internal const ushort InvalidOpcode = 0x001;
    internal const ushort InvalidField = 0x002;
    internal const ushort CommandIdConflict = 0x003;
    internal const ushort DataTransferError = 0x004;
    internal const ushort AbortRequested = 0x007;
    internal const ushort InvalidNamespace = 0x00B;
    internal const ushort CommandSequenceError = 0x00C;
    internal const ushort PrpOffsetInvalid = 0x013;
    internal const ushort NamespaceWriteProtected = 0x020;
    internal const ushort LbaOutOfRange = 0x080;
    internal const ushort CompletionQueueInvalid = 0x100;
    internal const ushort InvalidQueueIdentifier = 0x101;
    internal const ushort InvalidQueueSize = 0x102;
    internal const ushort AsyncEventLimitExceeded = 0x105;
    internal const ushort InvalidInterruptVector = 0x108;
    internal const ushort InvalidLogPage = 0x109;
    internal const ushort InvalidQueueDeletion = 0x10C;
    internal const ushort FeatureNotSaveable = 0x10D;
    internal const ushort FeatureNotChangeable = 0x10E;
    internal const ushort FeatureNotNamespaceSpecific = 0x10F;
    internal const ushort WriteFault = 0x280;
    internal const ushort UnrecoveredReadError = 0x281;

    /// <summary>Set in a completion when the error log has an entry for it.</summary>
    internal const ushort More = 0x2000;

    /// <summary>Set in a completion when the same command would fail again.</summary>
    internal const ushort DoNotRetry = 0x4000;

    /// <summary>Only a failed DMA and an abort may turn out differently at the second attempt.</summary>
    internal static bool MayRetry(ushort status) => status is DataTransferError or AbortRequested;
}
