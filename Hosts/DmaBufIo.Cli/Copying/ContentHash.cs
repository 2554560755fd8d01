using System.Security.Cryptography;

namespace DmaBufIo.Cli.Copying;

/// <summary>
/// The ground truth of a copy: hashes files with plain file reads, not through the devices that are under test, so that an error in one direction cannot
/// hide behind the same error in the other.
/// </summary>
internal static class ContentHash
{
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
