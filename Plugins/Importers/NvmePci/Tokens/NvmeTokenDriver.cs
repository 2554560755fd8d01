using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tokens;

/// <summary>A controller's part of a registration: attaches dynamically, so the buffer may move, and turns the exporter's table into page
/// addresses.</summary>
internal sealed class NvmeTokenDriver : TokenDriver
{
    private readonly DmaDevice _device;
    private readonly int _pageShift;
    private DmaAttachment? _attachment;

    internal NvmeTokenDriver(DmaBuf buffer, DmaDirection direction, DmaDevice device, int pageShift)
        : base(buffer, direction)
    {
        _device = device;
        _pageShift = pageShift;
    }

    /// <inheritdoc/>
    public override DmaMap Map(in HeldReservation held)
    {
        SgTable table = _attachment!.Map(Direction, held);
        try
        {
            return NvmeDmaMap.Create(table, _device, _pageShift);
        }
        catch
        {
            _attachment.Unmap(table, held);
            throw;
        }
    }

    /// <inheritdoc/>
    public override void Unmap(DmaMap map, in HeldReservation held) => _attachment!.Unmap(((NvmeDmaMap)map).Table, held);

    /// <inheritdoc/>
    public override void Release()
    {
        // Nothing but the attachment, which Core ends.
    }

    /// <inheritdoc/>
    protected override void Setup() => _attachment = Attach(_device);
}
