using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Importers.NvmePci.Protocol;
using DmaBufIo.Importers.NvmePci.Tokens;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Controller;

/// <summary>An active namespace as a block device.</summary>
internal sealed class NvmeNamespace : BlockDevice
{
    // NLB is a 16-bit count of logical blocks less one.
    private const int MaxBlocks = 65536;
    private readonly NvmeController _controller;
    private readonly NamespaceIdentity _identity;

    internal NvmeNamespace(NvmeController controller, uint id, in NamespaceIdentity identity)
    {
        _controller = controller;
        _identity = identity;
        Id = id;
        Name = $"{controller.Name}n{id}";
        int block = 1 << identity.BlockShift;
        int bytes = (int)Math.Min(controller.MaxTransferBytes, (long)MaxBlocks << identity.BlockShift) & -block;
        Limits = new QueueLimits(block)
        {
            DmaAlignment = 4,
            MaxBytes = bytes,

            // To the controller each of its pages is a segment of its own, and an unaligned start touches one more (B3).
            MaxSegments = PrpList.EntriesFor(bytes, controller.PageShift) + 1,
        };
    }

    /// <summary>The namespace identifier.</summary>
    internal uint Id { get; }

    /// <summary>The logical block as a power of two.</summary>
    internal int BlockShift => _identity.BlockShift;

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override long Capacity => (long)_identity.Blocks << _identity.BlockShift;

    /// <inheritdoc/>
    public override QueueLimits Limits { get; }

    /// <inheritdoc/>
    public override bool IsReadOnly => _identity.IsWriteProtected;

    /// <inheritdoc/>
    public override bool IsRemoved => _controller.Device.IsRemoved;

    /// <inheritdoc/>
    public override string Description =>
        $"{_controller.Identity.Model}, serial {_controller.Identity.Serial}, firmware {_controller.Identity.Firmware}, "
        + $"namespace {Id} on {_controller.FunctionName}";

    /// <inheritdoc/>
    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => _controller.OpenQueue(this, context, bios, depth);

    /// <inheritdoc/>
    public override TokenDriver CreateToken(DmaBuf buffer, DmaDirection direction) =>
        new NvmeTokenDriver(buffer, direction, _controller.Device, _controller.PageShift);
}
