using System.Security.Cryptography;

namespace DmaBufIo.Cli.Tests;

/// <summary>An empty folder that is removed at the end.</summary>
internal sealed class WorkFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("dmabufio-");

    internal string this[string name] => Path.Combine(_folder.FullName, name);

    internal string Random(string name, long size, int seed = 1)
    {
        var random = new Random(seed);
        byte[] piece = new byte[1 << 20];
        using var file = File.Create(this[name]);
        for (long left = size; left > 0; left -= piece.Length)
        {
            random.NextBytes(piece);
            file.Write(piece, 0, (int)Math.Min(left, piece.Length));
        }

        return this[name];
    }

    internal string Sparse(string name, long size)
    {
        using var file = File.Create(this[name]);
        file.SetLength(size);
        return this[name];
    }

    internal static string Hash(string path)
    {
        using var file = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(file));
    }

    public void Dispose() => _folder.Delete(recursive: true);
}
