using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting;

/// <summary>
/// What is known of a plugin while it is being loaded. Copies everything: a list of the plugin's own type would keep it from being
/// unloaded.
/// </summary>
internal sealed class PluginDraft(PluginStatus status)
{
    internal PluginStatus Status { get; private set; } = status;

    internal static DmaBufIoException Refused(string plugin, string problem, string remedy) =>
        new(Errno.EINVAL, "Hosting", $"plugin {plugin}", problem, remedy);

    internal static bool IsWord(string? word) =>
        word is { Length: > 0 } && Topology.ExpressionReader.WordEnd(word, 0) == word.Length;

    internal void Take(PluginInfo? info, bool isUnloadable)
    {
        if (info is null)
            throw Refused(Status.Name, $"its {nameof(IDmaBufIoPlugin.Info)} is null", "Return what the plugin is");
        if (!IsWord(info.Name))
            throw Refused(
                Status.Name,
                $"its name '{info.Name}' is not made of lower-case letters, digits and dashes, beginning with a letter",
                "Correct the name in its Info");
        Status = Status with
        {
            Name = info.Name,
            Version = info.Version,
            Description = info.Description,
            Kinds = info.Kinds,
            Words = [.. info.Words],
            Options = [.. info.Options],
            IsUnloadable = isUnloadable,
        };
    }

    internal void TakeWords(string[] words)
    {
        foreach (string word in words)
        {
            if (!IsWord(word))
                throw Refused(
                    Status.Name,
                    $"its word '{word}' is not made of lower-case letters, digits and dashes, beginning with a letter",
                    "Correct the word of its factory");
        }

        Status = Status with { Words = [.. Status.Words.Concat(words).Distinct(StringComparer.Ordinal)] };
    }

    internal PluginStatus Refuse(string reason) => Status = Status with { State = PluginState.Refused, Reason = reason };
}
