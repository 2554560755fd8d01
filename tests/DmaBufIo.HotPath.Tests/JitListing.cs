using System.Diagnostics.CodeAnalysis;
using System.Text.RegularExpressions;

namespace DmaBufIo.HotPath.Tests;

/// <summary>A listing of all that the compiler compiled in a process, and what it inlined where.</summary>
internal sealed partial class JitListing
{
    private const string Footer = "; Total bytes of code";
    private readonly Dictionary<string, JitBody> _final = [];
    private readonly ILookup<MethodKey, JitBody> _byKey;
    private readonly ILookup<(string Type, string Name), (string Type, string Name)> _hosts;

    private JitListing(IEnumerable<JitBody> bodies, IEnumerable<string> inlinings)
    {
        // The last one counts: earlier ones were thrown away.
        foreach (JitBody body in bodies.Where(static b => b.IsFinal))
            _final[body.Name] = body;
        _byKey = _final.Values.ToLookup(static b => b.Key);
        _hosts = inlinings.Select(static l => l.Split('\t')).Where(static p => p[0] != p[1])
            .ToLookup(static p => Names(p[0]), static p => Names(p[1]));
    }

    /// <summary>Reads a listing.</summary>
    /// <returns>False when lines of different methods are mixed: labels that do not follow each other, or jumps to labels that are not
    /// there.</returns>
    internal static bool TryRead(
        IEnumerable<string> lines, IEnumerable<string> inlinings, [NotNullWhen(true)] out JitListing? listing, out string problem)
    {
        List<JitBody> bodies = [.. Read(lines)];
        problem = bodies.Find(static b => !b.IsWhole)?.Name ?? "";
        listing = problem.Length == 0 ? new JitListing(bodies, inlinings) : null;
        return listing is not null;
    }

    /// <summary>The code that stays of a method by its name in the listing, or null when it was hardly called.</summary>
    internal JitBody? Find(string name) => _final.GetValueOrDefault(name);

    /// <summary>The code that stays of a method; of a generic one, of each of its instantiations.</summary>
    internal IEnumerable<JitBody> Find(MethodKey key) => _byKey[key];

    /// <summary>The code that stays of the methods into which a method was inlined.</summary>
    internal IEnumerable<JitBody> HostsOf(MethodKey key) =>
        _hosts[(key.Type, key.Name)].Distinct().SelectMany(host => _final.Values.Where(b => (b.Key.Type, b.Key.Name) == host));

    private static (string Type, string Name) Names(string name)
    {
        var key = MethodKey.Parse(name);
        return (key.Type, key.Name);
    }

    private static IEnumerable<JitBody> Read(IEnumerable<string> lines)
    {
        JitBody? body = null;
        foreach (string line in lines)
        {
            if (Header().Match(line) is { Success: true } header)
            {
                if (body is not null)
                    yield return body;
                body = new JitBody(header.Groups["name"].Value, header.Groups["tier"].Value);
            }
            else if (body is not null && line.StartsWith(Footer, StringComparison.Ordinal))
            {
                body.Ends++;
            }
            else if (body is not null && Label().Match(line) is { Success: true } label)
            {
                body.Blocks.Add(new JitBlock(label.Value, []));
            }
            else if (body is { Blocks.Count: > 0 } && line.Trim() is { Length: > 0 } text && text[0] != ';')
            {
                body.Blocks[^1].Instructions.Add(text);
            }
        }

        if (body is not null)
            yield return body;
    }

    [GeneratedRegex(@"^; Assembly listing for method (?<name>.*) \((?<tier>[^()]*)\)\s*$")]
    private static partial Regex Header();

    [GeneratedRegex(@"^G_M\d+_IG\d+(?=:)")]
    private static partial Regex Label();
}
