using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Regions;

/// <summary>A card's part of a registration: attaches dynamically, so the buffer may move.</summary>
internal sealed class RnicTokenDriver(DmaBuf buffer, DmaDirection direction, DmaDevice device) : TokenDriver(buffer, direction)
{
    private DmaAttachment? _attachment;

    /// <inheritdoc/>
    public override DmaMap Map(in HeldReservation held)
    {
        SgTable table = _attachment!.Map(Direction, held);
        try
        {
            return RnicDmaMap.Create(table);
        }
        catch
        {
            _attachment.Unmap(table, held);
            throw;
        }
    }

    /// <inheritdoc/>
    public override void Unmap(DmaMap map, in HeldReservation held) => _attachment!.Unmap(((RnicDmaMap)map).Table, held);

    /// <inheritdoc/>
    public override void Release()
    {
        // Nothing but the attachment, which Core ends.
    }

    /// <inheritdoc/>
    protected override void Setup() => _attachment = Attach(device);
}
