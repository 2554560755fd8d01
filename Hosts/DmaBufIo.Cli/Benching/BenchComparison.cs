using System.Globalization;
using System.Text.Json;
using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;
using DmaBufIo.Native;

namespace DmaBufIo.Cli.Benching;

/// <summary><c>bench --compare A.json B.json</c>: each figure of both, their ratio, and what differs.</summary>
internal static class BenchComparison
{
    /// <summary>Differences up to this share are not marked: runs of the same build differ by so much.</summary>
    private const double Noise = 0.05;

    private const long LargestFile = 1 << 20;

    // Name, and what more of it means: 1 is better, -1 is worse, 0 is neither.
    private static readonly (string Name, int Sense)[] s_figures =
    [
        ("iops", 1), ("bytesPerSecond", 1),
        ("latencyNs.min", -1), ("latencyNs.mean", -1), ("latencyNs.p50", -1), ("latencyNs.p90", -1), ("latencyNs.p99", -1),
        ("latencyNs.p999", -1), ("latencyNs.p9999", -1), ("latencyNs.max", -1),
        ("cpuUse", 0), ("allocatedBytesPerRequest", -1),
        ("requests", 0), ("maps", 0), ("invalidations", 0), ("invalidationsUnderLoad", 0), ("reissued", 0),
        ("iommuFaults", -1), ("staleAccesses", -1),
        ("iommuPerRequest.maps", -1), ("iommuPerRequest.unmaps", -1), ("iommuPerRequest.walks", -1),
        ("iommuPerRequest.misses", -1), ("iommuPerRequest.invalidations", -1),
    ];

    /// <summary>Compares two files and prints.</summary>
    /// <returns>The exit code.</returns>
    /// <exception cref="DmaBufIoException">A file cannot be read or is no result of a benchmark.</exception>
    internal static int Run(string first, string second, bool json)
    {
        using JsonDocument a = Read(first);
        using JsonDocument b = Read(second);
        var figures = s_figures.Select(f => Compare(f.Name, f.Sense, Figure(a, f.Name)!.Value, Figure(b, f.Name)!.Value)).ToList();
        var report = new ComparisonReport(Ok: true, first, second, figures, [.. Settings(a, b)]);
        foreach ((string file, JsonDocument result) in new[] { (first, a), (second, b) })
        {
            if (!result.RootElement.GetProperty("ok").GetBoolean())
                CommandOutput.Message($"warning: the run of {file} did not end well: its figures are not to be trusted");
        }

        if (json)
            CommandOutput.Json(report);
        else
            Print(report);
        return CommandOutput.Success;
    }

    private static JsonDocument Read(string path)
    {
        Errno status = FileStatus.Of(path, out FileStatus file);
        if (status != Errno.Ok)
            throw Refused(status, path, "it cannot be looked up", "Check the name");
        if (file.Kind != FileKind.Regular || file.Size > LargestFile)
            throw Refused(
                Errno.EINVAL, path,
                file.Kind == FileKind.Regular ? $"it has {file.Size} bytes, far more than a result" : "it is not a regular file",
                "Give a file that 'dmabufio bench --json' has printed");
        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(File.ReadAllBytes(path));
        }
        catch (JsonException e)
        {
            throw Refused(
                Errno.EINVAL, path, $"it is no JSON (line {e.LineNumber + 1})", "Give a file that 'dmabufio bench --json' has printed");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Refused(Errno.EACCES, path, "it cannot be read", "Grant read permission on the file");
        }

        string? missing = Array.Find(s_figures, f => Figure(document, f.Name) is null).Name;
        bool isResult = missing is null
            && document.RootElement.TryGetProperty("ok", out JsonElement ok) && ok.ValueKind is JsonValueKind.True or JsonValueKind.False
            && document.RootElement.TryGetProperty("settings", out JsonElement settings) && settings.ValueKind == JsonValueKind.Object;
        if (isResult)
            return document;
        document.Dispose();
        throw Refused(
            Errno.EINVAL, path, $"it is no result of a benchmark: it has no {missing ?? "settings"}",
            "Give a file that 'dmabufio bench --json' has printed");
    }

    private static double? Figure(JsonDocument document, string name)
    {
        JsonElement at = document.RootElement;
        foreach (string part in name.Split('.'))
        {
            if (at.ValueKind != JsonValueKind.Object || !at.TryGetProperty(part, out at))
                return null;
        }

        return at.ValueKind == JsonValueKind.Number && at.TryGetDouble(out double value) ? value : null;
    }

    private static ComparedFigure Compare(string name, int sense, double a, double b)
    {
        double? ratio = a == 0 ? (b == 0 ? 1 : null) : b / a;
        bool differs = ratio is not { } r || Math.Abs(r - 1) > Noise;
        string? mark = !differs ? null : sense == 0 ? "differs" : b > a == sense > 0 ? "better" : "worse";
        return new ComparedFigure(name, a, b, ratio, mark);
    }

    private static IEnumerable<ComparedSetting> Settings(JsonDocument a, JsonDocument b)
    {
        JsonElement first = a.RootElement.GetProperty("settings");
        JsonElement second = b.RootElement.GetProperty("settings");
        foreach (string name in first.EnumerateObject().Concat(second.EnumerateObject()).Select(static p => p.Name).Distinct())
        {
            string? left = first.TryGetProperty(name, out JsonElement l) ? l.ToString() : null;
            string? right = second.TryGetProperty(name, out JsonElement r) ? r.ToString() : null;
            if (left != right)
                yield return new ComparedSetting(name, left, right);
        }
    }

    private static void Print(ComparisonReport report)
    {
        CommandOutput.Data($"A: {report.A}");
        CommandOutput.Data($"B: {report.B}");
        foreach (ComparedSetting setting in report.Settings)
            CommandOutput.Data($"setting {setting.Name}: {setting.A ?? "none"} | {setting.B ?? "none"}");
        CommandOutput.Data($"{"",-30} {"A",16} {"B",16} {"B / A",9}");
        foreach (ComparedFigure figure in report.Figures)
        {
            string ratio = figure.Ratio is { } r ? r.ToString("0.000", CultureInfo.InvariantCulture) : "-";
            CommandOutput.Data($"{figure.Name,-30} {Number(figure.A),16} {Number(figure.B),16} {ratio,9} {figure.Mark}".TrimEnd());
        }
    }

    private static string Number(double value) => value.ToString(Math.Abs(value) >= 1000 ? "#,0" : "0.####", CultureInfo.InvariantCulture);

    private static DmaBufIoException Refused(Errno errno, string path, string problem, string remedy) =>
        new(errno, "bench", $"file {path}", problem, remedy);
}

/// <summary>What <c>bench --compare --json</c> prints.</summary>
/// <param name="Ok">Both could be compared.</param>
/// <param name="A">The first file.</param>
/// <param name="B">The second file.</param>
/// <param name="Figures">Each figure.</param>
/// <param name="Settings">The settings in which they differ.</param>
internal sealed record ComparisonReport(
    bool Ok, string A, string B, IReadOnlyList<ComparedFigure> Figures, IReadOnlyList<ComparedSetting> Settings);

/// <summary>One figure of two runs.</summary>
/// <param name="Name">Its name in the results.</param>
/// <param name="A">In the first.</param>
/// <param name="B">In the second.</param>
/// <param name="Ratio">B / A; null when A is 0 and B is not.</param>
/// <param name="Mark">"better" or "worse" (B than A), "differs", or null when they are as good as equal.</param>
internal sealed record ComparedFigure(string Name, double A, double B, double? Ratio, string? Mark);

/// <summary>A setting in which two runs differ.</summary>
/// <param name="Name">Its name.</param>
/// <param name="A">In the first, or null.</param>
/// <param name="B">In the second, or null.</param>
internal sealed record ComparedSetting(string Name, string? A, string? B);
