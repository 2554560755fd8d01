using System.Security.Cryptography;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Cli.Copying;

/// <summary>
/// The ground truth of a copy: hashes files with plain file reads, not through the devices that are under test, so that an error in one direction cannot
/// hide behind the same error in the other.
/// </summary>
internal static class ContentHash
{
    /// <summary>Hashes the first bytes of a set, or of a file on devices: opened anew, read alone, into memory that does not move.</summary>
    /// <param name="host">Opens it.</param>
    /// <param name="expression">What.</param>
    /// <param name="length">How many bytes.</param>
    /// <param name="cancellationToken">Stops between pieces.</param>
    /// <returns>SHA-256 in lower-case hexadecimal.</returns>
    /// <exception cref="DmaBufIoException">A read failed.</exception>
    internal static string OfDevice(DmaBufIoHost host, DeviceExpression expression, long length, CancellationToken cancellationToken)
    {
        const int Piece = 1 << 20;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using OpenedDevice device = host.Open(expression, readOnly: true);
        using var memory = MemoryRegion.Allocate("hash", Piece);
        IoFile file = device.OpenFile(OpenFlags.Direct | OpenFlags.ReadOnly);
        using (var ring = new Ring(new RingOptions { Name = "hash", Entries = 1 }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = file, Direction = DmaDirection.FromDevice });
            var completions = new RingCompletion[1];
            for (long position = 0; position < length; position += Piece)
            {
                cancellationToken.ThrowIfCancellationRequested();
                int wanted = (int)Math.Min(Piece, length - position);
                ring.TryReadFixed(file, 0, 0, (wanted + file.BlockSize - 1) / file.BlockSize * file.BlockSize, position, 0);
                ring.Submit(CancellationToken.None);
                while (ring.Reap(completions, 1, CancellationToken.None) == 0)
                {
                }

                if (completions[0].Status != Errno.Ok || completions[0].Bytes < wanted)
                    throw new DmaBufIoException(completions[0].Status == Errno.Ok ? Errno.EIO : completions[0].Status, "copy", file.Name, $"reading it back transferred {completions[0].Bytes} bytes", "See what the device itself says", range: $"{position}+{wanted}");
                hash.AppendData(memory.Span(0, wanted));
            }

            RemovedBuffer removed = ring.RemoveBuffer(0);
            ring.Dispose();
            removed.WaitReleased(CancellationToken.None);
        }

        file.Put();
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Hashes the first bytes of a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="length">How many bytes; a file that is shorter hashes shorter.</param>
    /// <param name="cancellationToken">Stops between pieces.</param>
    /// <returns>SHA-256 in lower-case hexadecimal.</returns>
    internal static string OfFile(string path, long length, CancellationToken cancellationToken)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, FileOptions.SequentialScan);
        byte[] piece = new byte[1 << 20];
        for (long position = 0; position < length;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int read = RandomAccess.Read(file, piece.AsSpan(0, (int)Math.Min(piece.Length, length - position)), position);
            if (read == 0)
                break;
            hash.AppendData(piece, 0, read);
            position += read;
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
