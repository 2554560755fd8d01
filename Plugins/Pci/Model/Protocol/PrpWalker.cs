using System.Buffers.Binary;
using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>A run of device addresses of one transfer.</summary>
internal readonly record struct PrpSegment(ulong Address, long Length);

/// <summary>
/// The controller's side of PRP: turns PRP1, PRP2 and the lists behind them into segments, neighbours merged, and finds the
/// rule a host broke. Owned by the engine; its buffers are reused, so a walk allocates only while it meets longer
/// transfers than before.
/// </summary>
internal sealed class PrpWalker(Func<ulong, Memory<byte>, Errno> read)
{
    private PrpSegment[] _segments = new PrpSegment[64];
    private byte[] _list = new byte[4096];
    private int _count;

    /// <summary>The segments of the last walk that succeeded; valid until the next.</summary>
    internal ReadOnlySpan<PrpSegment> Segments => _segments.AsSpan(0, _count);

    /// <summary>The rule the last walk found broken, or null.</summary>
    internal string? BrokenRule { get; private set; }

    /// <summary>The entry or pointer that broke it.</summary>
    internal ulong OffendingValue { get; private set; }

    /// <summary>What is wrong with it, as a clause.</summary>
    internal string Problem { get; private set; } = "";

    /// <summary>Walks the entries of one transfer.</summary>
    /// <param name="prp1">The command's first entry.</param>
    /// <param name="prp2">The command's second entry: nothing, data or a list.</param>
    /// <param name="length">Bytes of the transfer, more than 0.</param>
    /// <param name="pageSize">The page size of CC.MPS, in bytes (P1).</param>
    /// <param name="strict">Also check what a controller may ignore: P2, P4 and the low bits in P6.</param>
    /// <returns>A status; <see cref="BrokenRule"/> is set unless it is success or a failed DMA.</returns>
    internal ushort Walk(ulong prp1, ulong prp2, long length, int pageSize, bool strict)
    {
        _count = 0;
        BrokenRule = null;
        ulong offsetMask = (ulong)pageSize - 1;
        if (strict && (prp1 & 3) != 0)
            return Broken("P2", prp1, "PRP1 is not dword aligned", NvmeStatus.PrpOffsetInvalid);
        prp1 &= ~3ul;
        long part = Math.Min(length, pageSize - (long)(prp1 & offsetMask));
        Add(prp1, part);
        long remaining = length - part;
        if (remaining == 0)
        {
            return strict && prp2 != 0
                ? Broken("P4", prp2, "the transfer ends in PRP1's page but PRP2 is not 0", NvmeStatus.InvalidField)
                : NvmeStatus.Success;
        }

        if (remaining > pageSize)
            return WalkList(prp2, remaining, pageSize, strict);
        ushort status = CheckEntry("P5", prp2, offsetMask, strict);
        if (status == NvmeStatus.Success)
            Add(prp2 & ~3ul, remaining);
        return status;
    }

    private ushort WalkList(ulong pointer, long remaining, int pageSize, bool strict)
    {
        ulong offsetMask = (ulong)pageSize - 1;
        if (strict && (pointer & 7) != 0)
            return Broken("P6", pointer, "the pointer to the PRP list is not qword aligned", NvmeStatus.PrpOffsetInvalid);
        pointer &= ~7ul;
        if (_list.Length < pageSize)
            _list = new byte[pageSize];
        long entries = (remaining + pageSize - 1) / pageSize;
        while (true)
        {
            // P7, P8: a list ends with its page. When more entries are needed than fit, the last slot is the way to the next page.
            int slots = (int)(((ulong)pageSize - (pointer & offsetMask)) >> 3);
            bool chained = entries > slots;
            int used = chained ? slots : (int)entries;
            if (read(pointer, _list.AsMemory(0, used * 8)) != Errno.Ok)
                return NvmeStatus.DataTransferError;
            int data = chained ? slots - 1 : used;
            for (int i = 0; i < data; i++)
            {
                ulong entry = Slot(i);
                ushort status = CheckEntry("P9", entry, offsetMask, strict);
                if (status != NvmeStatus.Success)
                    return status;
                long part = Math.Min(remaining, pageSize);
                Add(entry & ~3ul, part);
                remaining -= part;
            }

            if (!chained)
                return NvmeStatus.Success;
            entries -= data;
            pointer = Slot(slots - 1);
            if ((pointer & offsetMask) != 0)
                return Broken("P8", pointer, "the pointer to the next list page has an offset", NvmeStatus.PrpOffsetInvalid);
        }
    }

    private ulong Slot(int index) => BinaryPrimitives.ReadUInt64LittleEndian(_list.AsSpan(index * 8));

    private ushort CheckEntry(string rule, ulong entry, ulong offsetMask, bool strict)
    {
        if ((entry & offsetMask & ~3ul) != 0)
            return Broken(rule, entry, "an entry after the first has an offset into its page", NvmeStatus.PrpOffsetInvalid);
        return strict && (entry & 3) != 0
            ? Broken("P2", entry, "bits 1:0 of an entry are not 0", NvmeStatus.PrpOffsetInvalid)
            : NvmeStatus.Success;
    }

    private void Add(ulong address, long length)
    {
        if (_count > 0)
        {
            ref PrpSegment last = ref _segments[_count - 1];
            if (last.Address + (ulong)last.Length == address)
            {
                last = last with { Length = last.Length + length };
                return;
            }
        }

        if (_count == _segments.Length)
            Array.Resize(ref _segments, _count * 2);
        _segments[_count++] = new PrpSegment(address, length);
    }

    private ushort Broken(string rule, ulong value, string problem, ushort status)
    {
        BrokenRule = rule;
        OffendingValue = value;
        Problem = problem;
        return status;
    }
}
