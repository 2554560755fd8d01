using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Docs.Tests.Examples;

// <example>
internal sealed class ScratchTokenDriver(DmaBuf buffer, DmaDirection direction, DmaDevice device) : TokenDriver(buffer, direction)
{
    private DmaAttachment? _attachment;

    // No lock, may sleep. Attached dynamically, so that the buffer may move. When it throws, Core undoes the attachment (T2).
    protected override void Setup() => _attachment = Attach(device);

    // The buffer's reservation lock is held (T5); may sleep, but for nothing that needs that lock (F4).
    public override DmaMap Map(in HeldReservation held)
    {
        SgTable table = _attachment!.Map(Direction, held);
        try
        {
            return RangeMap.Create(table);
        }
        catch
        {
            _attachment.Unmap(table, held); // nothing stays mapped when it throws
            throw;
        }
    }

    // The lock is held, on a worker: once per map, after its last request (T8).
    public override void Unmap(DmaMap map, in HeldReservation held) => _attachment!.Unmap(((RangeMap)map).Table, held);

    // Once, without the lock, when no map is left (T10). The attachment is Core's to end.
    public override void Release()
    {
    }
}
// </example>
