using System.Buffers.Binary;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>The NVM command set.</summary>
public sealed partial class NvmeControllerModel
{
    private readonly StoreMover _storeMover;
    private readonly byte[] _ranges = new byte[256 * 16];

    private ushort ExecuteIo(int queue, in NvmeCommand command)
    {
        BeginCommand(queue, command);
        if (IoOpcode.All.IndexOf(command.Opcode) < 0)
            return NvmeStatus.InvalidOpcode;
        ushort status = CheckCommon(command);
        if (status != NvmeStatus.Success)
            return status;
        if (command.NamespaceId != 1 && !(command.Opcode == IoOpcode.Flush && command.NamespaceId == BroadcastNamespace))
            return Broken("NSID", command.NamespaceId, "the namespace does not exist", NvmeStatus.InvalidNamespace);
        return command.Opcode switch
        {
            IoOpcode.Flush => Flush(command),
            IoOpcode.Write => ReadOrWrite(command, write: true),
            IoOpcode.Read => ReadOrWrite(command, write: false),
            IoOpcode.WriteZeroes => WriteZeroes(command),
            _ => ManageDataset(command),
        };
    }

    private ushort Flush(in NvmeCommand command)
    {
        ushort status = First(CheckDwords(command, 0), CheckNoData(command));
        if (status != NvmeStatus.Success)
            return status;
        return _options.ReadOnly || FlushStore(_currentQueue, _currentCommand) == Errno.Ok ? NvmeStatus.Success : NvmeStatus.WriteFault;
    }

    private ushort ReadOrWrite(in NvmeCommand command, bool write)
    {
        const uint BlocksForceUnitAccessAndLimitedRetry = 0xC000_FFFF;
        ushort status = CheckDwords(command, uint.MaxValue, uint.MaxValue, BlocksForceUnitAccessAndLimitedRetry, 0xFF);
        if (status != NvmeStatus.Success)
            return status;
        if (write && _options.ReadOnly)
            return NvmeStatus.NamespaceWriteProtected;
        if (!InRange(command.StartingLba, (ulong)command.BlockCount))
            return NvmeStatus.LbaOutOfRange;
        long position = (long)command.StartingLba << _namespace.LbaShift;
        long length = (long)command.BlockCount << _namespace.LbaShift;
        status = MapData(command, length);
        if (status != NvmeStatus.Success)
            return status;
        DmaDirection direction = write ? DmaDirection.ToDevice : DmaDirection.FromDevice;
        long moved = 0;
        foreach (PrpSegment segment in _walker.Segments)
        {
            _storeMover.Begin(write, position + moved);
            if (DmaTransfer(segment.Address, segment.Length, direction, _storeMover) != Errno.Ok)
                return FailTransfer(write, position, length);
            moved += segment.Length;
        }

        if (!write)
        {
            _readCommands++;
            _sectorsRead += (ulong)length >> 9;
            return NvmeStatus.Success;
        }

        _writeCommands++;
        _sectorsWritten += (ulong)length >> 9;
        return MakeDurable(command.ForceUnitAccess);
    }

    private ushort WriteZeroes(in NvmeCommand command)
    {
        const uint BlocksForceUnitAccessAndDeallocate = 0xC200_FFFF;
        const uint Deallocate = 1u << 25;
        ushort status = First(CheckDwords(command, uint.MaxValue, uint.MaxValue, BlocksForceUnitAccessAndDeallocate), CheckNoData(command));
        if (status != NvmeStatus.Success)
            return status;
        if (_options.ReadOnly)
            return NvmeStatus.NamespaceWriteProtected;
        if (!InRange(command.StartingLba, (ulong)command.BlockCount))
            return NvmeStatus.LbaOutOfRange;
        status = ZeroBlocks(command.StartingLba, (ulong)command.BlockCount, extend: (command.Cdw12 & Deallocate) == 0);
        if (status != NvmeStatus.Success)
            return status;
        _writeCommands++;
        return MakeDurable(command.ForceUnitAccess);
    }

    private ushort ManageDataset(in NvmeCommand command)
    {
        const uint Deallocate = 1u << 2;
        ushort status = CheckDwords(command, 0xFF, 0x7);
        if (status != NvmeStatus.Success)
            return status;
        bool deallocate = (command.Cdw11 & Deallocate) != 0;
        if (deallocate && _options.ReadOnly)
            return NvmeStatus.NamespaceWriteProtected;
        Span<byte> ranges = _ranges.AsSpan(0, ((int)(command.Cdw10 & 0xFF) + 1) * 16);
        status = FetchFromHost(command, ranges);
        if (status != NvmeStatus.Success)
            return status;

        // All ranges are checked before the first is touched: a command that fails its checks changes nothing.
        for (int i = 0; i < ranges.Length; i += 16)
        {
            uint blocks = BinaryPrimitives.ReadUInt32LittleEndian(ranges[(i + 4)..]);
            if (!InRange(BinaryPrimitives.ReadUInt64LittleEndian(ranges[(i + 8)..]), blocks))
                return NvmeStatus.LbaOutOfRange;
        }

        for (int i = 0; deallocate && i < ranges.Length && status == NvmeStatus.Success; i += 16)
        {
            uint blocks = BinaryPrimitives.ReadUInt32LittleEndian(ranges[(i + 4)..]);
            if (blocks != 0)
                status = ZeroBlocks(BinaryPrimitives.ReadUInt64LittleEndian(ranges[(i + 8)..]), blocks, extend: false);
        }

        return status != NvmeStatus.Success || !deallocate ? status : MakeDurable(force: false);
    }

    private bool InRange(ulong first, ulong count) => count <= _namespace.Blocks && first <= _namespace.Blocks - count;

    private ushort ZeroBlocks(ulong first, ulong count, bool extend)
    {
        long position = (long)first << _namespace.LbaShift;
        long length = (long)count << _namespace.LbaShift;
        Errno errno = _store.Zero(position, length, extend);
        if (errno == Errno.Ok)
            return NvmeStatus.Success;
        RecordStoreError(errno, _currentOpcode, _currentQueue, _currentCommand, position, length);
        return NvmeStatus.WriteFault;
    }

    private ushort FailTransfer(bool write, long position, long length)
    {
        if (_storeMover.StoreError == Errno.Ok)
            return NvmeStatus.DataTransferError;
        RecordStoreError(_storeMover.StoreError, _currentOpcode, _currentQueue, _currentCommand, position, length);
        return write ? NvmeStatus.WriteFault : NvmeStatus.UnrecoveredReadError;
    }

    // Without a volatile write cache a write that completed is durable; the host's page cache is such a cache.
    private ushort MakeDurable(bool force) =>
        (force || !_writeCacheEnabled) && FlushStore(_currentQueue, _currentCommand) != Errno.Ok
            ? NvmeStatus.WriteFault
            : NvmeStatus.Success;

    private Errno FlushStore(int queue, int command)
    {
        Errno errno = _store.Flush();
        if (errno != Errno.Ok)
            RecordStoreError(errno, IoOpcode.Flush, queue, command, 0, 0);
        return errno;
    }
}
