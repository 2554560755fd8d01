using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.DmaBufs;

/// <content>
/// The CPU looks into a buffer, or writes to it, wherever it lies at that moment: the counterpart of the kernel's dma_buf_begin_cpu_access. Reading through <see cref="Describe"/> without the
/// lock is safe only for a buffer that nobody moves: memory that was left is freed.
/// </content>
public sealed partial class DmaBuf
{
    /// <summary>
    /// Copies bytes of the buffer out, as its exporter's jobs have left them. Takes the reservation lock and waits for jobs that write the buffer; may sleep. Not in completion context, not while
    /// holding a map reference or a reservation lock (T15). Requests of devices are the caller's to order: what was reaped is there.
    /// </summary>
    /// <param name="offset">First byte in the buffer.</param>
    /// <param name="destination">Where the bytes go; the range lies in the buffer.</param>
    /// <param name="cancellationToken">Interrupts the waits.</param>
    /// <exception cref="DmaBufIoException">The range leaves the buffer (<c>EFAULT</c>), or the exporter names no memory that the CPU sees (<c>EOPNOTSUPP</c>).</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public void Read(long offset, Span<byte> destination, CancellationToken cancellationToken = default)
    {
        CheckRange(offset, destination.Length);
        using ReservationGuard guard = LockWhenIdle(FenceUsage.Write, cancellationToken);
        MemoryLayout memory = CpuMemory();
        while (!destination.IsEmpty)
        {
            MemoryRange piece = memory.At(offset, destination.Length);
            int length = (int)piece.Length;
            piece.Region.Span(piece.Offset, length).CopyTo(destination);
            destination = destination[length..];
            offset += length;
        }
    }

    /// <summary>Copies bytes into the buffer. As <see cref="Read"/>, and waits for jobs that read it, too.</summary>
    /// <param name="offset">First byte in the buffer.</param>
    /// <param name="source">The bytes; the range lies in the buffer.</param>
    /// <param name="cancellationToken">Interrupts the waits.</param>
    /// <exception cref="DmaBufIoException">As <see cref="Read"/>.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public void Write(long offset, ReadOnlySpan<byte> source, CancellationToken cancellationToken = default)
    {
        CheckRange(offset, source.Length);
        using ReservationGuard guard = LockWhenIdle(FenceUsage.Read, cancellationToken);
        MemoryLayout memory = CpuMemory();
        while (!source.IsEmpty)
        {
            MemoryRange piece = memory.At(offset, source.Length);
            int length = (int)piece.Length;
            source[..length].CopyTo(piece.Region.Span(piece.Offset, length));
            source = source[length..];
            offset += length;
        }
    }

    /// <summary>Why the CPU cannot copy a buffer, as a clause; null when it can.</summary>
    internal static string? WhyNotByCpu(DmaBuf buffer, BufferBacking backing)
    {
        long named = backing.Ranges.Sum(static r => r.Length);
        return backing.Ranges.Count == 0 ? $"{buffer.Name} is {backing.Kind} and its exporter names no memory that the CPU could copy"
            : named != buffer.Size ? $"the exporter of {buffer.Name} names {named} of its {buffer.Size} bytes"
            : null;
    }

    // As a map is made (T12): jobs are waited for under the lock only where their signal needs no lock (D1); the test under it is what counts.
    private ReservationGuard LockWhenIdle(FenceUsage usage, CancellationToken cancellationToken)
    {
        while (true)
        {
            bool waitsLocked = Exporter.FencesNeedNoLock;
            if (!waitsLocked)
                Reservation.Wait(usage, cancellationToken);
            cancellationToken.ThrowIfCancellationRequested();
            ReservationGuard guard = Reservation.Lock(null, cancellationToken);
            Errno status = Reservation.Wait(waitsLocked ? usage : FenceUsage.Kernel, cancellationToken);
            if (status == Errno.Ok && Reservation.IsIdle(usage))
                return guard;
            guard.Dispose();
        }
    }

    private MemoryLayout CpuMemory()
    {
        BufferBacking backing = Exporter.Describe();
        if (WhyNotByCpu(this, backing) is { } problem)
            throw new DmaBufIoException(Errno.EOPNOTSUPP, "DmaBufs", Name, problem, "Have a device or the exporter's own jobs move the data");
        return new MemoryLayout(backing.Ranges);
    }

    private void CheckRange(long offset, int length)
    {
        if (offset < 0 || offset > Size - length)
            throw new DmaBufIoException(Errno.EFAULT, "DmaBufs", Name, $"the range leaves the buffer of {Size} bytes", "Give a range inside the buffer", range: $"{offset}+{length}", rule: "R2");
    }
}
