using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Stores;

namespace DmaBufIo.Pci.Model.Tests.Host;

/// <summary>A store that counts its calls and fails on demand.</summary>
internal sealed class ScriptedStore(long length) : INamespaceStore
{
    public long Length => length;

    internal Errno Answer { get; set; }

    internal List<string> Calls { get; } = [];

    public Errno Read(long position, Span<byte> destination) => Note($"read {position}+{destination.Length}");

    public Errno Write(long position, ReadOnlySpan<byte> source) => Note($"write {position}+{source.Length}");

    public Errno Zero(long position, long length, bool extend) => Note($"zero {position}+{length} {extend}");

    public Errno Flush() => Note("flush");

    public void Dispose() => Calls.Add("dispose");

    private Errno Note(string call)
    {
        Calls.Add(call);
        return Answer;
    }
}
