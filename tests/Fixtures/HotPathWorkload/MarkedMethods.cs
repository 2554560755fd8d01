using System.Reflection;
using DmaBufIo.Diagnostics;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>Finds the methods with the mark.</summary>
public static class MarkedMethods
{
    private const BindingFlags All =
        BindingFlags.Instance | BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

    public static IEnumerable<MethodBase> Of(Assembly assembly) => assembly.GetTypes().SelectMany(Of);

    public static IEnumerable<MethodBase> Of(Type type)
    {
        IEnumerable<MethodBase> methods = type.GetMethods(All).Concat<MethodBase>(type.GetConstructors(All)).Where(IsMarked);
        return methods.Concat(type.GetProperties(All).Where(IsMarked).SelectMany(static p => p.GetAccessors(nonPublic: true))).Distinct();
    }

    private static bool IsMarked(MemberInfo member) => member.IsDefined(typeof(HotPathAttribute), inherit: false);
}
