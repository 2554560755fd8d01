using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Tokens;

/// <summary>
/// The CPU as an importer: requests that no device can do in place are copied by it, and it sees the buffer through a token and a map like any device. So an invalidation finds its map,
/// kills it and waits for its requests (F7, T14 to T18), and nothing copies without a reference.
/// </summary>
internal sealed class BounceTokenDriver(DmaBuf buffer, DmaDirection direction) : TokenDriver(buffer, direction)
{
    protected internal override void Setup() => AttachCpu();

    /// <exception cref="DmaBufIoException">The exporter names no memory, or not all of it (<c>EOPNOTSUPP</c>).</exception>
    public override DmaMap Map(in HeldReservation held)
    {
        held.AssertFor(Buffer.Reservation);
        BufferBacking backing = Buffer.Describe();
        if (DmaBuf.WhyNotByCpu(Buffer, backing) is { } problem)
            throw new DmaBufIoException(Errno.EOPNOTSUPP, "Tokens", Buffer.Name, problem, "Register it with a file whose devices reach it directly");
        return new BounceMap(new MemoryLayout(backing.Ranges));
    }

    public override void Unmap(DmaMap map, in HeldReservation held)
    {
        // Nothing was set up: the memory is the exporter's, and its last user has gone.
    }

    public override void Release()
    {
        // The attachment is Core's to end.
    }
}
