using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Rings;
using Microsoft.Extensions.Options;

namespace FileToDisk;

/// <summary>Copies a file to a device through an exported buffer, reads it back, and compares.</summary>
public sealed class CopyJob(DmaBufIoHost host, IOptions<CopyOptions> options)
{
    private const int Piece = 256 << 10;

    /// <summary>Opens the device and the buffer, copies, and closes both.</summary>
    /// <returns>Bytes copied.</returns>
    /// <exception cref="DmaBufIoException">The device or the buffer cannot be opened, or a request failed.</exception>
    public async Task<long> RunAsync(CancellationToken cancellationToken)
    {
        CopyOptions what = options.Value;
        await using FileStream source = File.OpenRead(what.File);
        using OpenedDevice device = host.Open(what.Device);
        using ExportedBuffer exported = host.CreateBuffer(what.Exporter, "copy", Piece);
        IoFile file = device.OpenFile();
        try
        {
            // Awaited requests are driven by a thread of the ring's own.
            using var ring = new Ring(host.RingOptions with { Name = "copy", Entries = 4, DriverThread = true });
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = exported.Buffer, File = file });
            byte[] written = new byte[Piece];
            byte[] read = new byte[Piece];
            long done = 0;
            for (int count; (count = await source.ReadAtLeastAsync(written, Piece, throwOnEndOfStream: false, cancellationToken)) > 0; done += count)
            {
                int blocks = (count + file.BlockSize - 1) / file.BlockSize * file.BlockSize;
                Fill(exported.Buffer, written);
                Check(await ring.WriteFixedAsync(file, 0, 0, blocks, done, cancellationToken), blocks);
                if (exported.CanMove)
                    exported.Move(cancellationToken); // as its owner may at any time
                Fill(exported.Buffer, read);
                Check(await ring.ReadFixedAsync(file, 0, 0, blocks, done, cancellationToken), blocks);
                Fetch(exported.Buffer, read);
                if (!read.AsSpan(0, count).SequenceEqual(written.AsSpan(0, count)))
                    throw new DmaBufIoException(Errno.EIO, "FileToDisk", what.Device, $"what was read at {done} is not what was written", "Look at the device");
                Array.Clear(read);
            }

            Check(await ring.FlushAsync(file, cancellationToken), 0);
            return done;
        }
        finally
        {
            file.Put();
        }
    }

    // The buffer does not move while its reservation lock is held.
    private static void Fill(DmaBuf buffer, ReadOnlySpan<byte> bytes)
    {
        using ReservationGuard guard = buffer.Reservation.Lock();
        foreach (MemoryRange range in buffer.Describe().Ranges)
        {
            int part = (int)Math.Min(range.Length, bytes.Length);
            bytes[..part].CopyTo(range.Region.Span(range.Offset, part));
            bytes = bytes[part..];
        }
    }

    private static void Fetch(DmaBuf buffer, Span<byte> bytes)
    {
        using ReservationGuard guard = buffer.Reservation.Lock();
        foreach (MemoryRange range in buffer.Describe().Ranges)
        {
            int part = (int)Math.Min(range.Length, bytes.Length);
            range.Region.Span(range.Offset, part).CopyTo(bytes);
            bytes = bytes[part..];
        }
    }

    private static void Check(IoStatus status, long bytes)
    {
        if (status.Status != Errno.Ok || status.Bytes != bytes)
            throw new DmaBufIoException(status.Status == Errno.Ok ? Errno.ENOSPC : status.Status, "FileToDisk", "request", $"it moved {status.Bytes} of {bytes} bytes", "Choose a device that is large enough, or see what it says");
    }
}
