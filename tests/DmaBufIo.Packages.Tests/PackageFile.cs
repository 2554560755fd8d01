using System.IO.Compression;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Xml.Linq;

namespace DmaBufIo.Packages.Tests;

/// <summary>A package, opened.</summary>
internal sealed class PackageFile : IDisposable
{
    private readonly ZipArchive _archive;

    internal PackageFile(string path)
    {
        _archive = ZipFile.OpenRead(path);
        Id = Path.GetFileName(path)[..^$".{Build.Version}.nupkg".Length];
        XElement nuspec = XDocument.Load(new MemoryStream(Bytes($"{Id}.nuspec"))).Root!;
        Metadata = nuspec.Element(nuspec.Name.Namespace + "metadata")!;
    }

    internal string Id { get; }

    /// <summary>Every file, without what the format itself adds.</summary>
    internal IReadOnlyList<string> Files =>
    [
        .. _archive.Entries.Select(static e => e.FullName).Where(f => f != "[Content_Types].xml" && !f.StartsWith("_rels/", StringComparison.Ordinal) && !f.StartsWith("package/", StringComparison.Ordinal) && f != $"{Id}.nuspec"),
    ];

    internal IEnumerable<string> AllFiles => _archive.Entries.Select(static e => e.FullName);

    internal XElement Metadata { get; }

    internal string? Said(string name) => Metadata.Element(Metadata.Name.Namespace + name)?.Value;

    /// <summary>What it depends on: name and version.</summary>
    internal IReadOnlyList<(string Id, string Version)> Dependencies =>
        [.. Metadata.Descendants(Metadata.Name.Namespace + "dependency").Select(static d => (d.Attribute("id")!.Value, d.Attribute("version")!.Value)).Order()];

    internal byte[] Bytes(string file)
    {
        using Stream stream = _archive.GetEntry(file)!.Open();
        using var copy = new MemoryStream();
        stream.CopyTo(copy);
        return copy.ToArray();
    }

    internal string Text(string file) => new StreamReader(new MemoryStream(Bytes(file))).ReadToEnd();

    /// <summary>True when the compiler says that the same sources make the same bytes.</summary>
    internal bool IsReproducible(string assembly)
    {
        using var image = new PEReader(new MemoryStream(Bytes(assembly)));
        return image.ReadDebugDirectory().Any(static e => e.Type == DebugDirectoryEntryType.Reproducible);
    }

    /// <summary>The names of the source files that symbols know.</summary>
    internal IReadOnlyList<string> Sources(string symbols)
    {
        using var provider = MetadataReaderProvider.FromPortablePdbStream(new MemoryStream(Bytes(symbols)));
        MetadataReader reader = provider.GetMetadataReader();
        return [.. reader.Documents.Select(d => reader.GetString(reader.GetDocument(d).Name))];
    }

    /// <summary>The public types of an assembly, as documentation names them.</summary>
    internal IReadOnlyList<string> PublicTypes(string assembly)
    {
        using var image = new PEReader(new MemoryStream(Bytes(assembly)));
        MetadataReader reader = image.GetMetadataReader();
        return
        [
            .. reader.TypeDefinitions.Select(reader.GetTypeDefinition)
                .Where(static t => (t.Attributes & System.Reflection.TypeAttributes.VisibilityMask) == System.Reflection.TypeAttributes.Public)
                .Select(t => $"{reader.GetString(t.Namespace)}.{reader.GetString(t.Name)}"),
        ];
    }

    public void Dispose() => _archive.Dispose();
}
