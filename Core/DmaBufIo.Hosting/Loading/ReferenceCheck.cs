using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using System.Runtime.Loader;
using DmaBufIo.Errors;

namespace DmaBufIo.Hosting.Loading;

/// <summary>
/// Looks at what a plugin was built against before any of its code is loaded. The runtime does not compare versions when a load context
/// hands it the host's assembly, so a plugin built against a newer one would fail later, at some missing member.
/// </summary>
internal sealed class ReferenceCheck
{
    private readonly PluginConfig _config;
    private readonly AssemblyDependencyResolver _resolver;

    private ReferenceCheck(PluginConfig config)
    {
        _config = config;
        _resolver = new AssemblyDependencyResolver(config.MainAssemblyPath);
    }

    /// <summary>Checks the entry assembly and, through the references, every private assembly of the plugin.</summary>
    /// <exception cref="DmaBufIoException">A shared assembly is missing, older than the one wanted, or incompatible.</exception>
    /// <exception cref="BadImageFormatException">A file is no .NET assembly.</exception>
    internal static void Check(PluginConfig config) => new ReferenceCheck(config).Check();

    private void Check()
    {
        var seen = new HashSet<string>(StringComparer.Ordinal) { _config.MainAssemblyPath };
        var pending = new Queue<string>(seen);
        while (pending.TryDequeue(out string? path))
        {
            foreach (AssemblyName reference in References(path))
            {
                if (Private(reference) is not string own)
                    CheckHost(path, reference);
                else if (seen.Add(own))
                    pending.Enqueue(own);
            }
        }
    }

    private string? Private(AssemblyName reference)
    {
        string name = reference.Name!;
        if (SharedAssemblies.IsHouse(name) || (SharedAssemblies.IsShared(name, _config) && SharedAssemblies.OfHost(name) is not null))
            return null;
        return _resolver.ResolveAssemblyToPath(reference);
    }

    private void CheckHost(string path, AssemblyName reference)
    {
        string name = reference.Name!;
        string plugin = Path.GetFileNameWithoutExtension(_config.MainAssemblyPath);
        string user = Path.GetFileName(path);
        Version wanted = reference.Version ?? new Version(0, 0);
        Version? present = SharedAssemblies.OfHost(name)?.GetName().Version;
        if (present is null)
        {
            // A private library may refer to what it never uses; the plugin itself may not lack anything.
            if (path == _config.MainAssemblyPath || SharedAssemblies.IsHouse(name))
                throw Refused(
                    plugin,
                    $"{user} needs {name} {wanted}, which is neither in its folder nor in the host",
                    $"Copy {name}.dll into the plugin's folder, or run it in a host that has it");
            return;
        }

        if (wanted > present)
            throw Refused(
                plugin,
                $"{user} was built against {name} {wanted}, and this host has {present}",
                $"Update the host to {name} {wanted} or newer, or build the plugin against {present} or older");
        if (SharedAssemblies.IsHouse(name) && wanted.Major != present.Major)
            throw Refused(
                plugin,
                $"{user} was built against {name} {wanted}, which is incompatible with this host's {present}",
                $"Build the plugin against {name} {present.Major}.x");
    }

    private static List<AssemblyName> References(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        using var image = new PEReader(new MemoryStream(bytes, writable: false));

        // A copy that is under way may hold all the metadata and lack the rest.
        if (image.PEHeaders.SectionHeaders.Any(s => (long)s.PointerToRawData + s.SizeOfRawData > bytes.Length))
            throw new BadImageFormatException($"{Path.GetFileName(path)} is cut off after {bytes.Length} bytes.");
        if (!image.HasMetadata)
            throw new BadImageFormatException($"{Path.GetFileName(path)} holds no .NET metadata.");
        MetadataReader metadata = image.GetMetadataReader();
        var references = new List<AssemblyName>();
        foreach (AssemblyReferenceHandle handle in metadata.AssemblyReferences)
            references.Add(metadata.GetAssemblyReference(handle).GetAssemblyName());
        return references;
    }

    private static DmaBufIoException Refused(string plugin, string problem, string remedy) =>
        new(Errno.EOPNOTSUPP, "Hosting", $"plugin {plugin}", problem, remedy);
}
