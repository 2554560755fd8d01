using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>RAID 10: stripes over mirrors. The copies of all mirrors are numbered in a row, as their members were given.</summary>
internal sealed class Raid10Device(StripedDevice stripes, IReadOnlyList<MirrorSet> mirrors) : BlockDevice, IRedundantDevice, IDisposable
{
    private readonly int _copies = mirrors[0].Copies.Length;

    /// <inheritdoc/>
    public override string Name => stripes.Name;

    /// <inheritdoc/>
    public override long Capacity => stripes.Capacity;

    /// <inheritdoc/>
    public override QueueLimits Limits => stripes.Limits;

    /// <inheritdoc/>
    public override bool IsReadOnly => stripes.IsReadOnly;

    /// <inheritdoc/>
    public override bool IsRemoved => stripes.IsRemoved;

    /// <inheritdoc/>
    public override string Description => $"{stripes.Description}: {string.Join("; ", mirrors.Select(static m => m.Description))}";

    /// <inheritdoc/>
    public IReadOnlyList<RedundantMember> Members => [.. mirrors.SelectMany(static m => m.Members)];

    /// <inheritdoc/>
    public bool IsInSync => mirrors.All(static m => m.IsInSync);

    /// <inheritdoc/>
    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => stripes.OpenQueue(context, bios, depth);

    /// <inheritdoc/>
    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => stripes.CreateToken(buffer, direction);

    /// <inheritdoc/>
    public void Fail(int member) => mirrors[MirrorOf(member)].Fail(member % _copies);

    /// <inheritdoc/>
    public void Replace(int member, BlockDevice device) => mirrors[MirrorOf(member)].Replace(member % _copies, device);

    /// <inheritdoc/>
    public Errno WaitInSync(CancellationToken cancellationToken = default)
    {
        Errno status = Errno.Ok;
        foreach (MirrorSet mirror in mirrors)
        {
            Errno one = mirror.WaitInSync(cancellationToken);
            if (status == Errno.Ok)
                status = one;
        }

        return status;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (MirrorSet mirror in mirrors)
            mirror.Dispose();
    }

    private int MirrorOf(int member) => (uint)member < (uint)(mirrors.Count * _copies)
        ? member / _copies
        : throw new DmaBufIoException(Errno.EINVAL, StackedRaidPlugin.PluginName, Name, $"there is no member {member}", $"Members are numbered from 0 to {(mirrors.Count * _copies) - 1}");
}
