using System.Reflection;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting.Loading;

/// <summary>Finds the one class of an entry assembly that speaks for the plugin.</summary>
internal static class EntryClass
{
    internal static Type Find(Assembly assembly)
    {
        string name = assembly.GetName().Name!;
        Type[] entries = [.. TypesOf(assembly, name).Where(IsEntry)];
        Type[] visible = [.. entries.Where(static t => t.IsVisible)];
        if (visible.Length == 0)
        {
            string hidden = entries.Length == 0 ? "" : $" ({entries[0].FullName} is not public)";
            throw Refused(
                name,
                $"it holds no public class that implements {nameof(IDmaBufIoPlugin)}{hidden}",
                "Add one, with a public parameterless constructor");
        }

        if (visible.Length > 1)
        {
            string all = string.Join(", ", visible.Select(static t => t.FullName));
            throw Refused(
                name,
                $"it holds {visible.Length} classes that implement {nameof(IDmaBufIoPlugin)}: {all}",
                "Keep one of them public, or make two plugins of it");
        }

        if (visible[0].GetConstructor(Type.EmptyTypes) is null)
            throw Refused(
                name,
                $"{visible[0].FullName} has no public parameterless constructor",
                "Add one; services are injected into what the class registers");
        return visible[0];
    }

    private static bool IsEntry(Type type) => type is { IsClass: true, IsAbstract: false } && type.IsAssignableTo(typeof(IDmaBufIoPlugin));

    private static Type[] TypesOf(Assembly assembly, string name)
    {
        try
        {
            return assembly.GetTypes();
        }
        catch (ReflectionTypeLoadException e)
        {
            string reasons = string.Join(
                "; ",
                e.LoaderExceptions.Where(static x => x is not null).Select(static x => x!.Message).Distinct().Take(3));
            throw Refused(
                name,
                $"its types cannot be loaded: {reasons}",
                "Build it against this host's version, and copy its own dependencies into its folder");
        }
    }

    private static DmaBufIoException Refused(string assembly, string problem, string remedy) =>
        new(Errno.EINVAL, "Hosting", $"plugin {assembly}", problem, remedy);
}
