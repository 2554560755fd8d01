using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;

namespace DmaBufIo.Tokens;

/// <summary>
/// A driver's part of a token for one device that reaches memory by ranges: attaches it dynamically, so that the buffer may move, and hands its table on as a <see cref="RangeMap"/>.
/// </summary>
/// <param name="buffer">The buffer.</param>
/// <param name="direction">The transfers.</param>
/// <param name="device">The device.</param>
public class RangeTokenDriver(DmaBuf buffer, DmaDirection direction, DmaDevice device) : TokenDriver(buffer, direction)
{
    private DmaAttachment? _attachment;

    /// <inheritdoc/>
    protected internal override void Setup() => _attachment = Attach(device);

    /// <inheritdoc/>
    public override DmaMap Map(in HeldReservation held)
    {
        SgTable table = _attachment!.Map(Direction, held);
        try
        {
            return RangeMap.Create(table);
        }
        catch
        {
            _attachment.Unmap(table, held);
            throw;
        }
    }

    /// <inheritdoc/>
    public override void Unmap(DmaMap map, in HeldReservation held) => _attachment!.Unmap(((RangeMap)map).Table, held);

    /// <inheritdoc/>
    public override void Release()
    {
        // Nothing but the attachment, which Core ends.
    }
}
