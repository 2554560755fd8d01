using System.Text;
using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting.Topology;

/// <summary>Writes expressions the way the parser reads them.</summary>
public static class ExpressionText
{
    /// <summary>
    /// The canonical text of an expression: a plain path is written as <c>nvme:PATH</c>, texts are quoted where they must be, options come
    /// before members.
    /// </summary>
    /// <param name="expression">A device or exporter expression.</param>
    /// <returns>A text that parses to an equal tree, positions apart.</returns>
    public static string Format(DeviceExpression expression)
    {
        var text = new StringBuilder();
        Append(text, expression);
        return text.ToString();
    }

    private static void Append(StringBuilder text, DeviceExpression expression)
    {
        text.Append(expression.Word);
        string before = "";
        if (expression.Text is not null)
        {
            text.Append(':').Append(Quoted(expression.Text));
            before = ",";
        }
        else if (expression.Options.Count != 0 && expression.Members.Count == 0)
        {
            before = ":";
        }
        else if (expression.Options.Count != 0)
        {
            // A word with members and options but no text has no other way to write them.
            text.Append(":\"\"");
            before = ",";
        }

        foreach ((string name, DeviceOption option) in expression.Options)
        {
            text.Append(before).Append(name).Append('=').Append(Quoted(option.Value));
            before = ",";
        }

        if (expression.Members.Count == 0)
            return;
        string separator = "(";
        foreach (DeviceExpression member in expression.Members)
        {
            text.Append(separator);
            Append(text, member);
            separator = ",";
        }

        text.Append(')');
    }

    private static string Quoted(string text)
    {
        bool plain = text.Length != 0
            && text[0] is not ('"' or ' ')
            && text[^1] is not (' ' or '@')
            && text.AsSpan().IndexOfAny(",()=") < 0;
        return plain ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
    }
}
