using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Memory;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>
/// The mirror's own I/O: metadata and copying. Its memory is registered with each member when the member joins and never moves, so nothing here waits for an exporter (T15).
/// </summary>
/// <remarks>Used by one thread at a time: with the set's control lock held.</remarks>
internal sealed class MirrorStore : IDisposable
{
    /// <summary>Bytes that are copied at once.</summary>
    internal const int CopySize = 1 << 20;

    private const int MetadataOffset = 2 * CopySize;
    private const int MostTries = 8;
    private readonly string _name;
    private readonly MemoryRegion _memory;
    private readonly Dictionary<BlockDevice, Member> _members = [];
    private readonly RingCompletion[] _completions = new RingCompletion[1];

    internal MirrorStore(string name)
    {
        _name = name;
        _memory = MemoryRegion.Allocate($"{name} metadata", MetadataOffset + MetadataLayout.BlockSize);
    }

    /// <summary>What was read from the source.</summary>
    internal Span<byte> Source(int length) => _memory.Span(0, length);

    /// <summary>What was read from the copy.</summary>
    internal Span<byte> Copy(int length) => _memory.Span(CopySize, length);

    /// <summary>A block of metadata.</summary>
    internal Span<byte> Block => _memory.Span(MetadataOffset, MetadataLayout.BlockSize);

    /// <summary>Maps the memory for a member.</summary>
    /// <exception cref="DmaBufIoException">The member cannot take it, or is gone.</exception>
    internal void Attach(BlockDevice device)
    {
        if (!_members.ContainsKey(device))
            _members[device] = new Member(_name, device, _memory);
    }

    /// <summary>Forgets a device. Nothing of it is under way.</summary>
    /// <returns>What it has open, for the caller to dispose of, which may sleep; null when it has nothing.</returns>
    internal Member? TakeOut(BlockDevice device) => _members.Remove(device, out Member? member) ? member : null;

    internal Errno ReadMetadata(BlockDevice device, long offset) => Do(device, isWrite: false, MetadataOffset, MetadataLayout.BlockSize, offset);

    internal Errno WriteMetadata(BlockDevice device, long offset) => Do(device, isWrite: true, MetadataOffset, MetadataLayout.BlockSize, offset);

    internal Errno ReadSource(BlockDevice device, long offset, int length) => Do(device, isWrite: false, 0, length, offset);

    internal Errno ReadCopy(BlockDevice device, long offset, int length) => Do(device, isWrite: false, CopySize, length, offset);

    internal Errno WriteCopy(BlockDevice device, long offset, int length) => Do(device, isWrite: true, 0, length, offset);

    /// <summary>Makes everything that was written to a member durable.</summary>
    internal Errno Flush(BlockDevice device)
    {
        if (!_members.TryGetValue(device, out Member? member))
            return Errno.ENODEV;
        for (int tries = 0; ; tries++)
        {
            member.Ring.TryFlush(member.File, 0);
            Errno status = Run(member).Status;
            if (status != Errno.ECANCELED || tries == MostTries)
                return status;
        }
    }

    public void Dispose()
    {
        foreach (Member member in _members.Values)
            member.Dispose();
        _memory.Dispose();
    }

    private Errno Do(BlockDevice device, bool isWrite, long memory, int length, long offset)
    {
        if (!_members.TryGetValue(device, out Member? member))
            return Errno.ENODEV;
        for (int tries = 0; ; tries++)
        {
            if (isWrite)
                member.Ring.TryWriteFixed(member.File, 0, memory, length, offset, 0);
            else
                member.Ring.TryReadFixed(member.File, 0, memory, length, offset, 0);
            RingCompletion completion = Run(member);

            // A reset in between: what it had is done again.
            if (completion.Status == Errno.ECANCELED && tries < MostTries)
                continue;
            return completion.Status == Errno.Ok && completion.Bytes != length ? Errno.EIO : completion.Status;
        }
    }

    private RingCompletion Run(Member member)
    {
        member.Ring.Submit();
        while (member.Ring.Reap(_completions, 1) == 0)
        {
        }

        return _completions[0];
    }

    /// <summary>A member's own ring and map: what was dropped is closed alone.</summary>
    internal sealed class Member : IDisposable
    {
        internal Member(string name, BlockDevice device, MemoryRegion memory)
        {
            File = new BlockDeviceFile(device);
            Ring = new Ring(new RingOptions { Name = $"{name} own, {device.Name}", Entries = 4, BufferSlots = 1 });
            try
            {
                Ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = File });
            }
            catch
            {
                Ring.Dispose();
                File.Put();
                throw;
            }
        }

        internal Ring Ring { get; }

        internal BlockDeviceFile File { get; }

        public void Dispose()
        {
            RemovedBuffer removed = Ring.RemoveBuffer(0);
            Ring.Dispose();
            removed.WaitReleased();
            File.Put();
        }
    }
}
