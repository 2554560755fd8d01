using System.Buffers.Binary;

namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>The error information log (01h): a ring of the latest failures, newest first when read. Survives controller resets.</summary>
internal sealed class ErrorLog
{
    /// <summary>Entries kept; Identify reports one less (ELPE is 0's based).</summary>
    internal const int Entries = 64;

    /// <summary>Bytes of an entry.</summary>
    internal const int EntrySize = 64;

    /// <summary>Parameter location of an error that is not about one field.</summary>
    internal const ushort NoParameter = 0xFFFF;

    private readonly byte[] _entries = new byte[Entries * EntrySize];
    private ulong _count;

    /// <summary>Failures ever logged.</summary>
    internal ulong Count => _count;

    /// <summary>Logs a failed command.</summary>
    /// <param name="queue">Its submission queue.</param>
    /// <param name="command">The command.</param>
    /// <param name="status">The status field of its completion, without the phase.</param>
    /// <param name="lba">First LBA concerned, 0 when the command has none.</param>
    internal void Add(int queue, in NvmeCommand command, ushort status, ulong lba)
    {
        Span<byte> entry = _entries.AsSpan((int)(_count++ % Entries) * EntrySize, EntrySize);
        entry.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(entry, _count);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[8..], (ushort)queue);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[10..], command.CommandId);
        BinaryPrimitives.WriteUInt16LittleEndian(entry[12..], (ushort)(status << 1));
        BinaryPrimitives.WriteUInt16LittleEndian(entry[14..], NoParameter);
        BinaryPrimitives.WriteUInt64LittleEndian(entry[16..], lba);
        BinaryPrimitives.WriteUInt32LittleEndian(entry[24..], command.NamespaceId);
    }

    /// <summary>Writes the log page, newest entry first.</summary>
    /// <param name="page"><see cref="Entries"/> times <see cref="EntrySize"/> bytes.</param>
    internal void CopyTo(Span<byte> page)
    {
        page.Clear();
        int kept = (int)Math.Min(_count, Entries);
        for (int i = 0; i < kept; i++)
        {
            int slot = (int)((_count - 1 - (ulong)i) % Entries);
            _entries.AsSpan(slot * EntrySize, EntrySize).CopyTo(page[(i * EntrySize)..]);
        }
    }
}
