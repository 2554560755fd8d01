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

    private const int Slots = 1024;
    private const int MetadataOffset = 2 * CopySize;
    private const int MostTries = 8;
    private readonly MemoryRegion _memory;
    private readonly Ring _ring;
    private readonly Dictionary<BlockDevice, (int Slot, BlockDeviceFile File)> _members = [];
    private readonly RingCompletion[] _completions = new RingCompletion[1];

    internal MirrorStore(string name)
    {
        _memory = MemoryRegion.Allocate($"{name} metadata", MetadataOffset + MetadataLayout.BlockSize);
        _ring = new Ring(new RingOptions { Name = $"{name} own", Entries = 16, BufferSlots = Slots });
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
        if (_members.ContainsKey(device))
            return;
        var file = new BlockDeviceFile(device);
        int slot = _members.Count;
        try
        {
            _ring.RegisterBuffer(slot, new BufferRegistration { Memory = _memory, File = file });
        }
        catch
        {
            file.Put();
            throw;
        }

        _members[device] = (slot, file);
    }

    internal Errno ReadMetadata(BlockDevice device, long offset) => Do(device, isWrite: false, MetadataOffset, MetadataLayout.BlockSize, offset);

    internal Errno WriteMetadata(BlockDevice device, long offset) => Do(device, isWrite: true, MetadataOffset, MetadataLayout.BlockSize, offset);

    internal Errno ReadSource(BlockDevice device, long offset, int length) => Do(device, isWrite: false, 0, length, offset);

    internal Errno ReadCopy(BlockDevice device, long offset, int length) => Do(device, isWrite: false, CopySize, length, offset);

    internal Errno WriteCopy(BlockDevice device, long offset, int length) => Do(device, isWrite: true, 0, length, offset);

    /// <summary>Makes everything that was written to a member durable.</summary>
    internal Errno Flush(BlockDevice device)
    {
        if (!_members.TryGetValue(device, out (int Slot, BlockDeviceFile File) member))
            return Errno.ENODEV;
        for (int tries = 0; ; tries++)
        {
            _ring.TryFlush(member.File, 0);
            Errno status = Run().Status;
            if (status != Errno.ECANCELED || tries == MostTries)
                return status;
        }
    }

    public void Dispose()
    {
        List<RemovedBuffer> removed = [.. _members.Values.Select(m => _ring.RemoveBuffer(m.Slot))];
        _ring.Dispose();
        foreach (RemovedBuffer registration in removed)
            registration.WaitReleased();
        foreach ((_, BlockDeviceFile file) in _members.Values)
            file.Put();
        _memory.Dispose();
    }

    private Errno Do(BlockDevice device, bool isWrite, long memory, int length, long offset)
    {
        if (!_members.TryGetValue(device, out (int Slot, BlockDeviceFile File) member))
            return Errno.ENODEV;
        for (int tries = 0; ; tries++)
        {
            if (isWrite)
                _ring.TryWriteFixed(member.File, member.Slot, memory, length, offset, 0);
            else
                _ring.TryReadFixed(member.File, member.Slot, memory, length, offset, 0);
            RingCompletion completion = Run();

            // A reset in between: what it had is done again.
            if (completion.Status == Errno.ECANCELED && tries < MostTries)
                continue;
            return completion.Status == Errno.Ok && completion.Bytes != length ? Errno.EIO : completion.Status;
        }
    }

    private RingCompletion Run()
    {
        _ring.Submit();
        while (_ring.Reap(_completions, 1) == 0)
        {
        }

        return _completions[0];
    }
}
