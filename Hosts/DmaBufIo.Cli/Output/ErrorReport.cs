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

/// <summary>Errors in the words of the command.</summary>
internal static class ErrorWords
{
    /// <summary>The same error with a remedy that says which option helps.</summary>
    internal static DmaBufIoException With(this DmaBufIoException e, string remedy) =>
        new(e.Errno, e.Layer, e.Subject, e.Problem, remedy, e.Range, e.Rule, e.InnerException);
}
