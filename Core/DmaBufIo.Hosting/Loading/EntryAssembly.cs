using DmaBufIo.Errors;

namespace DmaBufIo.Hosting.Loading;

/// <summary>Finds the entry assembly of a plugin folder.</summary>
/// <remarks>
/// The rule: in folder NAME it is NAME.dll; where there is no such file, it is the assembly of the folder's only *.deps.json, which the
/// build writes for the plugin itself and not for its dependencies.
/// </remarks>
internal static class EntryAssembly
{
    private const string Rule =
        "Name the folder after the entry assembly (NAME/NAME.dll), or put exactly one plugin with its deps.json into it";

    internal static string Find(string folder)
    {
        string name = Path.GetFileName(folder);
        string named = Path.Combine(folder, name + ".dll");
        if (File.Exists(named))
            return named;

        string[] manifests = Directory.GetFiles(folder, "*.deps.json");
        if (manifests.Length == 0)
            throw Refused(folder, $"it holds neither {name}.dll nor a deps.json, so it has no entry assembly");
        if (manifests.Length > 1)
            throw Refused(folder, $"it holds no {name}.dll and {manifests.Length} deps.json files, so its entry assembly is ambiguous");

        string entry = manifests[0][..^".deps.json".Length] + ".dll";
        return File.Exists(entry) ? entry : throw Refused(
            folder,
            $"{Path.GetFileName(manifests[0])} is there and {Path.GetFileName(entry)} is not");
    }

    private static DmaBufIoException Refused(string folder, string problem) =>
        new(Errno.ENOENT, "Hosting", $"plugin folder {folder}", problem, Rule);
}
