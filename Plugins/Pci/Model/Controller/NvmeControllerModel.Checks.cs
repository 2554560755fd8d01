using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>Checks that commands share, and the way a broken rule becomes a record and a status.</summary>
public sealed partial class NvmeControllerModel
{
    private const uint BroadcastNamespace = 0xFFFF_FFFF;

    // The command being executed, for records. Engine's lock.
    private int _currentQueue;
    private int _currentCommand;
    private byte _currentOpcode;

    private void BeginCommand(int queue, in NvmeCommand command)
    {
        _currentQueue = queue;
        _currentCommand = command.CommandId;
        _currentOpcode = command.Opcode;
    }

    private ushort Broken(string rule, ulong address, string problem, ushort status = NvmeStatus.InvalidField)
    {
        _violations.Add(new NvmeViolation(rule, _currentOpcode, _currentQueue, _currentCommand, address, problem));
        return status;
    }

    /// <summary>What holds for every command: no fusing, PRP only, and in strict mode the fields that no command here uses.</summary>
    private ushort CheckCommon(in NvmeCommand command)
    {
        if (command.Fuse != 0)
            return Broken("FUSE", command.Cdw0, "fused operations are not supported (FUSES is 0)");
        if (command.Psdt != 0)
        {
            return _currentQueue == 0
                ? Broken("P14", command.Cdw0, "an admin command selects SGL")
                : Broken("S7", command.Cdw0, "a command selects SGL but SGLS is 0");
        }

        if (!_options.Strict)
            return NvmeStatus.Success;
        if ((command.Cdw0 & 0x3C00) != 0)
            return Broken("reserved", command.Cdw0, "bits 13:10 of command dword 0 are not 0");
        if ((command.MetadataPointer & 3) != 0)
            return Broken("P15", command.MetadataPointer, "the metadata pointer is not dword aligned");
        if (command.MetadataPointer != 0)
            return Broken("reserved", command.MetadataPointer, "there is a metadata pointer but the namespace has no metadata");
        return (command.Cdw2 | command.Cdw3) != 0
            ? Broken("reserved", command.Cdw2 | ((ulong)command.Cdw3 << 32), "command dwords 2 and 3 are not 0")
            : NvmeStatus.Success;
    }

    /// <summary>In strict mode: bits of command dwords 10 to 15 that the command does not define must be 0.</summary>
    /// <param name="command">The command.</param>
    /// <param name="used10">Bits of dword 10 that it defines.</param>
    /// <param name="used11">Of dword 11.</param>
    /// <param name="used12">Of dword 12.</param>
    /// <param name="used13">Of dword 13.</param>
    private ushort CheckDwords(in NvmeCommand command, uint used10, uint used11 = 0, uint used12 = 0, uint used13 = 0)
    {
        if (!_options.Strict)
            return NvmeStatus.Success;
        uint rest = (command.Cdw10 & ~used10) | (command.Cdw11 & ~used11) | (command.Cdw12 & ~used12) | (command.Cdw13 & ~used13)
            | command.Cdw14 | command.Cdw15;
        return rest == 0
            ? NvmeStatus.Success
            : Broken("reserved", rest, "bits that the command does not define are set in command dwords 10 to 15");
    }

    /// <summary>In strict mode: a command without data leaves PRP1 and PRP2 0.</summary>
    private ushort CheckNoData(in NvmeCommand command) =>
        _options.Strict && (command.Prp1 | command.Prp2) != 0
            ? Broken("reserved", command.Prp1 | command.Prp2, "a command without data has a data pointer")
            : NvmeStatus.Success;

    /// <summary>In strict mode: a command that concerns no namespace names none.</summary>
    private ushort CheckNoNamespace(in NvmeCommand command) =>
        _options.Strict && command.NamespaceId != 0
            ? Broken("NSID", command.NamespaceId, "a command that uses no namespace names one")
            : NvmeStatus.Success;

    private static ushort First(ushort a, ushort b) => a != NvmeStatus.Success ? a : b;

    private static ushort First(ushort a, ushort b, ushort c) => First(First(a, b), c);

    /// <summary>MDTS, then the PRP entries; on success the walker holds the segments.</summary>
    private ushort MapData(in NvmeCommand command, long length)
    {
        // MDTS counts in units of CAP.MPSMIN, which is 4 KiB whatever CC.MPS says.
        if (_options.Mdts != 0 && length > 4096L << _options.Mdts)
            return Broken("P12", (ulong)length, "the transfer is longer than MDTS allows");
        ushort status = _walker.Walk(command.Prp1, command.Prp2, length, _pageSize, _options.Strict);
        if (_walker.BrokenRule is { } rule)
            _ = Broken(rule, _walker.OffendingValue, _walker.Problem);
        return status;
    }

    /// <summary>Sends a data structure to the host; beyond its end the host gets zeros.</summary>
    private ushort SendToHost(in NvmeCommand command, ReadOnlySpan<byte> data, long length)
    {
        ushort status = MapData(command, length);
        if (status != NvmeStatus.Success)
            return status;
        foreach (PrpSegment segment in _walker.Segments)
        {
            ulong address = segment.Address;
            long left = segment.Length;
            while (left > 0)
            {
                ReadOnlySpan<byte> part = data.IsEmpty ? s_zeros : data;
                part = part[..(int)Math.Min(part.Length, left)];
                if (DmaWrite(address, part) != Errors.Errno.Ok)
                    return NvmeStatus.DataTransferError;
                data = data.IsEmpty ? data : data[part.Length..];
                address += (ulong)part.Length;
                left -= part.Length;
            }
        }

        return NvmeStatus.Success;
    }

    /// <summary>Fetches a data structure from the host.</summary>
    private ushort FetchFromHost(in NvmeCommand command, Span<byte> data)
    {
        ushort status = MapData(command, data.Length);
        if (status != NvmeStatus.Success)
            return status;
        foreach (PrpSegment segment in _walker.Segments)
        {
            if (DmaRead(segment.Address, data[..(int)segment.Length]) != Errors.Errno.Ok)
                return NvmeStatus.DataTransferError;
            data = data[(int)segment.Length..];
        }

        return NvmeStatus.Success;
    }
}
