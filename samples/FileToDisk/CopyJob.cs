using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Native;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;
using Microsoft.Extensions.Options;

namespace FileToDisk;

/// <summary>Copies a file to a device through an exported buffer, reads it back, and compares.</summary>
public sealed class CopyJob(DmaBufIoHost host, IOptions<CopyOptions> options)
{
    private const int Piece = 256 << 10;

    /// <summary>Opens the device and the buffer, copies, and closes both.</summary>
    /// <returns>Bytes copied.</returns>
    /// <exception cref="DmaBufIoException">The device or the buffer cannot be opened, the device stands on the file itself, or a request failed.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    /// <exception cref="OperationCanceledException">Cancelled. What is in flight has ended by then, and everything is closed.</exception>
    public async Task<long> RunAsync(CancellationToken cancellationToken)
    {
        CopyOptions what = options.Value;
        await using FileStream source = File.OpenRead(what.File);
        DeviceExpression expression = host.Parse(what.Device);
        CheckApart(FileIdentity.Of(source.SafeFileHandle), expression);
        using OpenedDevice device = host.Open(expression);
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
                // A device takes whole blocks: zeros behind the last byte, not what was there from before.
                int blocks = (count + file.BlockSize - 1) / file.BlockSize * file.BlockSize;
                written.AsSpan(count).Clear();
                exported.Buffer.Write(0, written, cancellationToken);
                Check(await ring.WriteFixedAsync(file, 0, 0, blocks, done, cancellationToken), "write", blocks, done);
                if (exported.CanMove)
                    exported.Move(cancellationToken); // as its owner may at any time
                read.AsSpan().Clear();
                exported.Buffer.Write(0, read, cancellationToken); // what is read is the device's, not what was left here
                Check(await ring.ReadFixedAsync(file, 0, 0, blocks, done, cancellationToken), "read", blocks, done);
                exported.Buffer.Read(0, read, cancellationToken);
                if (!read.AsSpan(0, count).SequenceEqual(written.AsSpan(0, count)))
                    throw new DmaBufIoException(Errno.EIO, "FileToDisk", what.Device, $"what was read at {done} is not what was written", "Look at the device");
            }

            Check(await ring.FlushAsync(file, cancellationToken), "flush", 0, done);
            return done;
        }
        finally
        {
            file.Put();
        }

        // A request that was not issued yet ends with EINTR when it is cancelled.
        void Check(IoStatus status, string request, long bytes, long offset)
        {
            if (status.Status != Errno.Ok)
                cancellationToken.ThrowIfCancellationRequested();
            if (status.Status != Errno.Ok || status.Bytes != bytes)
                throw new DmaBufIoException(status.Status == Errno.Ok ? Errno.ENOSPC : status.Status, "FileToDisk", what.Device, $"a {request} of {bytes} bytes at {offset} moved {status.Bytes}", "Choose a device that is large enough, or see what it says");
        }
    }

    // A device may be made of files (nvme:PATH, alone or in a set): writing to the one that is read would destroy it. Links to one file are that file.
    private static void CheckApart(FileIdentity source, DeviceExpression device)
    {
        if (device.Text is { Length: > 0 } path && FileStatus.Of(path, out FileStatus found) == Errno.Ok && found.Identity == source)
            throw device.Broken(device.Position, $"'{path}' is the file that is copied, and writing to it would destroy it", "Name another device; links to one file count as that file");
        foreach (DeviceExpression member in device.Members)
            CheckApart(source, member);
    }
}
