using System.Reflection;

namespace DmaBufIo.HotPath.Tests;

/// <summary>
/// What a method is called both in a listing and in reflection: type, name, number of parameters. Type arguments are left out.
/// </summary>
internal readonly record struct MethodKey(string Type, string Name, int Parameters)
{
    public override string ToString() => $"{Type}:{Name}/{Parameters}";

    internal static MethodKey Of(MethodBase method)
    {
        Type type = method.DeclaringType!;
        string name = (type.IsGenericType ? type.GetGenericTypeDefinition() : type).FullName!;
        return new MethodKey(name, method.Name, method.GetParameters().Length);
    }

    /// <summary>Reads the compiler's notation: <c>Type`1[Arguments]:Name[Arguments](parameters):result:this</c>.</summary>
    internal static MethodKey Parse(string name)
    {
        int colon = IndexOutside(name, ':', 0);
        if (colon < 0)
            return new MethodKey("", name, 0);
        int open = IndexOutside(name, '(', colon);
        string method = name[(colon + 1)..(open < 0 ? name.Length : open)];
        return new MethodKey(WithoutArguments(name[..colon]), WithoutArguments(method), open < 0 ? 0 : Count(name, open));
    }

    private static int Count(string name, int open)
    {
        if (name[open + 1] == ')')
            return 0;
        int count = 1;
        int depth = 0;
        for (int i = open + 1; i < name.Length && (name[i] != ')' || depth != 0); i++)
        {
            depth += name[i] switch { '[' or '(' => 1, ']' or ')' => -1, _ => 0 };
            count += name[i] == ',' && depth == 0 ? 1 : 0;
        }

        return count;
    }

    private static int IndexOutside(string text, char wanted, int start)
    {
        int depth = 0;
        for (int i = start; i < text.Length; i++)
        {
            if (depth == 0 && text[i] == wanted)
                return i;
            depth += text[i] switch { '[' => 1, ']' => -1, _ => 0 };
        }

        return -1;
    }

    private static string WithoutArguments(string name) => name.Split('[')[0];
}
