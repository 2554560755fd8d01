using DmaBufIo.Errors;
using DmaBufIo.Io;

namespace DmaBufIo.Block;

/// <summary>Stands for a member that could not be opened, for devices that can do without it: it is gone, and was never there.</summary>
public sealed class AbsentDevice : BlockDevice
{
    private readonly DmaBufIoException _reason;

    /// <summary>Creates it.</summary>
    /// <param name="reason">Why there is no device.</param>
    public AbsentDevice(DmaBufIoException reason) => _reason = reason;

    /// <inheritdoc/>
    public override string Name => "absent";

    /// <inheritdoc/>
    public override long Capacity => 0;

    /// <inheritdoc/>
    public override QueueLimits Limits { get; } = new(512);

    /// <inheritdoc/>
    public override bool IsRemoved => true;

    /// <inheritdoc/>
    public override string Description => _reason.Problem;

    /// <inheritdoc/>
    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) =>
        throw new DmaBufIoException(Errno.ENODEV, "Block", _reason.Subject, _reason.Problem, _reason.Remedy, inner: _reason);
}
