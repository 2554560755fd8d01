namespace DmaBufIo.Importers.NvmePci.Protocol;

/// <summary>Opcodes of the admin commands that the driver uses.</summary>
internal static class AdminOpcode
{
    internal const byte DeleteSubmissionQueue = 0x00;
    internal const byte CreateSubmissionQueue = 0x01;
    internal const byte DeleteCompletionQueue = 0x04;
    internal const byte CreateCompletionQueue = 0x05;
    internal const byte Identify = 0x06;
    internal const byte SetFeatures = 0x09;
}

/// <summary>Opcodes of the NVM command set that the driver uses.</summary>
internal static class IoOpcode
{
    internal const byte Flush = 0x00;
    internal const byte Write = 0x01;
    internal const byte Read = 0x02;
}
