using System.Reflection;
using DmaBufIo.Pci;

namespace DmaBufIo.HotPath.Tests;

/// <summary>Where a call through a method table can lead: overrides and implementations in the assemblies that are looked at.</summary>
internal sealed class Overrides(IReadOnlyList<Assembly> assemblies)
{
    private const BindingFlags All = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;
    private readonly Type[] _types = [.. assemblies.SelectMany(static a => a.GetTypes())];

    internal IEnumerable<MethodKey> Of(MethodKey declared)
    {
        Type? declaring = _types.FirstOrDefault(t => t.FullName == declared.Type);

        // A device's registers are where the framework ends. Types of the runtime have no overrides here.
        if (declaring is null || declaring == typeof(PciFunction))
            return [];
        return _types.Where(t => declaring.IsAssignableFrom(t))
            .SelectMany(static t => t.GetMethods(All))
            .Where(m => m.Name == declared.Name || m.Name.EndsWith($".{declared.Name}", StringComparison.Ordinal))
            .Select(MethodKey.Of)
            .Where(k => k.Parameters == declared.Parameters);
    }
}
