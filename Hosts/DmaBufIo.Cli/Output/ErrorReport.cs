using System.Text.Json.Serialization;
using DmaBufIo.Errors;

namespace DmaBufIo.Cli.Output;

/// <summary>An error as data.</summary>
internal sealed record ErrorReport(
    string Errno,
    string Layer,
    [property: JsonPropertyName("object")] string Subject,
    string Problem,
    string? Range,
    string? Rule,
    string Remedy)
{
    internal static ErrorReport From(DmaBufIoException e) => new(e.Errno.ToString(), e.Layer, e.Subject, e.Problem, e.Range, e.Rule, e.Remedy);
}
