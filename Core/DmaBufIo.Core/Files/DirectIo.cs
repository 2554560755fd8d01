using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Memory;

namespace DmaBufIo.Files;

/// <summary>What every file that hands its requests to block devices asks of them.</summary>
internal static class DirectIo
{
    /// <summary>The rules of direct I/O (B3, B5, R2).</summary>
    /// <param name="request">The request.</param>
    /// <param name="iter">Its memory side.</param>
    /// <param name="flags">How the file is opened now.</param>
    /// <param name="dmaMask">The alignment of memory offsets, less 1.</param>
    /// <param name="blockMask">The logical block, less 1.</param>
    [Diagnostics.HotPath]
    internal static Errno Check(in IoRequest request, in IovIter iter, OpenFlags flags, long dmaMask, long blockMask)
    {
        // Looked at again for every request: the flag may have been cleared since the buffer was registered (B5).
        if ((flags & OpenFlags.Direct) == 0)
            return Errno.EINVAL;
        if (iter.IsAny(IovKind.DmaBufMap))
        {
            // The common kind: memory offset dword aligned, file offset and length whole blocks (R2, B3).
            return ((iter.Offset & dmaMask) | ((request.FileOffset | iter.Count) & blockMask)) == 0 && request.FileOffset >= 0
                ? Errno.Ok
                : Errno.EINVAL;
        }

        if (!iter.IsAny(IovKind.DmaBufMapVec | IovKind.BioVec))
            return Errno.EOPNOTSUPP;
        if (request.FileOffset < 0 || ((request.FileOffset | iter.Count) & blockMask) != 0)
            return Errno.EINVAL;

        // One bio per range: each is a transfer of its own, so each is whole blocks and dword aligned.
        IovIter walk = iter;
        while (walk.Count > 0)
        {
            (long offset, long length) = Piece(walk);
            if ((offset & dmaMask) != 0 || (length & blockMask) != 0)
                return Errno.EINVAL;
            walk.Advance(length);
        }

        return Errno.Ok;
    }

    /// <summary>The next bytes that lie together in memory.</summary>
    [Diagnostics.HotPath]
    internal static (long Offset, long Length) Piece(in IovIter iter)
    {
        if (iter.IsAny(IovKind.BioVec))
        {
            MemoryRange memory = iter.CurrentMemory;
            return (memory.Offset, memory.Length);
        }

        BufferRange range = iter.CurrentRange;
        return (range.Offset, range.Length);
    }
}
