using System.Text;

namespace DmaBufIo.Errors;

/// <summary>
/// An error on a control path. Names the layer, the object, the range, the rule that was broken and the remedy.
/// The request path never throws; it answers an <see cref="Errno"/>.
/// </summary>
public sealed class DmaBufIoException : Exception
{
    /// <summary>Creates the exception; every part but the range and the rule is required.</summary>
    /// <param name="errno">The status, as the kernel would name it.</param>
    /// <param name="layer">The subsystem that found the error: a folder of Core or the name of a plugin.</param>
    /// <param name="subject">The object concerned, by the name its user knows.</param>
    /// <param name="problem">What is wrong, as a clause without a full stop.</param>
    /// <param name="remedy">What to do about it, as a sentence without a full stop.</param>
    /// <param name="range">The byte range concerned, or null.</param>
    /// <param name="rule">The rule of the protocol that was broken (for example "T1"), or null.</param>
    /// <param name="inner">The cause, or null.</param>
    public DmaBufIoException(
        Errno errno,
        string layer,
        string subject,
        string problem,
        string remedy,
        string? range = null,
        string? rule = null,
        Exception? inner = null)
        : base(Describe(errno, layer, subject, problem, remedy, range, rule), inner)
    {
        Errno = errno;
        Layer = layer;
        Subject = subject;
        Problem = problem;
        Remedy = remedy;
        Range = range;
        Rule = rule;
    }

    /// <summary>The status, as the kernel would name it.</summary>
    public Errno Errno { get; }

    /// <summary>The subsystem or plugin that found the error.</summary>
    public string Layer { get; }

    /// <summary>The object concerned, by the name its user knows.</summary>
    public string Subject { get; }

    /// <summary>What is wrong.</summary>
    public string Problem { get; }

    /// <summary>What to do about it.</summary>
    public string Remedy { get; }

    /// <summary>The byte range concerned, or null.</summary>
    public string? Range { get; }

    /// <summary>The rule that was broken, or null.</summary>
    public string? Rule { get; }

    private static string Describe(Errno errno, string layer, string subject, string problem, string remedy, string? range, string? rule)
    {
        var text = new StringBuilder(160);
        text.Append(layer).Append(": ").Append(subject).Append(": ").Append(problem);
        if (range is not null)
            text.Append(", range ").Append(range);
        text.Append(" (").Append(errno);
        if (rule is not null)
            text.Append(", rule ").Append(rule);
        return text.Append("). ").Append(remedy).Append('.').ToString();
    }
}
