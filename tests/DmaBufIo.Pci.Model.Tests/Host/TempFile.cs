namespace DmaBufIo.Pci.Model.Tests.Host;

/// <summary>A file that is gone with the test.</summary>
internal sealed class TempFile : IDisposable
{
    internal TempFile(int length, int seed = 1)
    {
        Contents = new byte[length];
        new Random(seed).NextBytes(Contents);
        File.WriteAllBytes(Path, Contents);
    }

    internal string Path { get; } = System.IO.Path.Combine(System.IO.Path.GetTempPath(), $"nvme-model-{Guid.NewGuid():N}.img");

    /// <summary>What was in it at first.</summary>
    internal byte[] Contents { get; }

    public void Dispose() => File.Delete(Path);

    internal byte[] Read() => File.ReadAllBytes(Path);
}
