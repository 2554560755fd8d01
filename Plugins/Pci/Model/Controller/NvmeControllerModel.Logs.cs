using System.Buffers.Binary;
using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>Get Log Page: error information, health, firmware slots, command effects.</summary>
public sealed partial class NvmeControllerModel
{
    private const int LogErrors = 0x01;
    private const int LogHealth = 0x02;
    private const int LogFirmware = 0x03;
    private const int LogEffects = 0x05;
    private readonly ErrorLog _errorLog = new();
    private ulong _readCommands;
    private ulong _writeCommands;
    private ulong _sectorsRead;
    private ulong _sectorsWritten;
    private ulong _mediaErrors;

    private byte CriticalWarning =>
        (byte)(IdentifyData.Temperature >= _temperatureOver || IdentifyData.Temperature <= _temperatureUnder ? 2 : 0);

    private ushort GetLogPage(in NvmeCommand command)
    {
        const int RetainAsyncEvent = 1 << 15;
        int log = (int)(command.Cdw10 & 0xFF);
        ushort status = CheckDwords(command, 0xFFFF_80FF, 0xFFFF, uint.MaxValue, uint.MaxValue);
        if (status != NvmeStatus.Success)
            return status;
        if (command.NamespaceId is not (0 or BroadcastNamespace))
            return NvmeStatus.InvalidField; // no log is kept per namespace: LPA bit 0 is 0
        Array.Clear(_page);
        int size;
        switch (log)
        {
            case LogErrors:
                size = ErrorLog.Entries * ErrorLog.EntrySize;
                _errorLog.CopyTo(_page);
                break;
            case LogHealth:
                size = 512;
                WriteHealth(_page);
                break;
            case LogFirmware:
                size = 512;
                IdentifyData.FirmwareSlots(_page);
                break;
            case LogEffects:
                size = 4096;
                IdentifyData.CommandEffects(_page);
                break;
            default:
                return NvmeStatus.InvalidLogPage;
        }

        ulong offset = command.Cdw12 | ((ulong)command.Cdw13 << 32);
        long length = ((long)((command.Cdw10 >> 16) | ((command.Cdw11 & 0xFFFF) << 16)) + 1) * 4;
        if ((offset & 3) != 0 || offset > (ulong)size)
            return NvmeStatus.InvalidField;
        if (length > LongestLogRequest)
            return NvmeStatus.InvalidField;
        status = SendToHost(command, _page.AsSpan((int)offset, size - (int)offset), length);
        if (status == NvmeStatus.Success && (command.Cdw10 & RetainAsyncEvent) == 0)
            ClearEvents(log);
        return status;
    }

    /// <summary>Without MDTS a log request could name 16 GiB; no log is longer than a page.</summary>
    private const long LongestLogRequest = 16 << 20;

    private void WriteHealth(Span<byte> page)
    {
        page[0] = CriticalWarning;
        BinaryPrimitives.WriteUInt16LittleEndian(page[1..], IdentifyData.Temperature);
        page[3] = 100;
        page[4] = 10;
        BinaryPrimitives.WriteUInt64LittleEndian(page[32..], (_sectorsRead + 999) / 1000);
        BinaryPrimitives.WriteUInt64LittleEndian(page[48..], (_sectorsWritten + 999) / 1000);
        BinaryPrimitives.WriteUInt64LittleEndian(page[64..], _readCommands);
        BinaryPrimitives.WriteUInt64LittleEndian(page[80..], _writeCommands);
        BinaryPrimitives.WriteUInt64LittleEndian(page[112..], 1);
        BinaryPrimitives.WriteUInt64LittleEndian(page[160..], _mediaErrors);
        BinaryPrimitives.WriteUInt64LittleEndian(page[176..], _errorLog.Count);
    }
}
