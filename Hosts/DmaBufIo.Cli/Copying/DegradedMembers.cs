using DmaBufIo.Block;
using DmaBufIo.Hosting;

namespace DmaBufIo.Cli.Copying;

/// <summary>Mirrors below an end of a copy that have lost members. What they hold is complete all the same.</summary>
internal static class DegradedMembers
{
    /// <summary>A line for each copy that is not in step.</summary>
    /// <param name="which">SRC or DST.</param>
    /// <param name="node">The device.</param>
    internal static IEnumerable<string> Of(string which, DeviceNode node) =>
        Mirrors(node).SelectMany(static m => m.Members).Where(static m => m.State != "InSync").Select(m => $"{which}: {m.Name} is {(m.State == "Missing" ? "missing" : "not in step")}: the mirror goes on without it");

    /// <summary>Waits until members that were given to a mirror have everything: otherwise the next opening begins again.</summary>
    internal static void WaitForRebuilding(DeviceNode node, CancellationToken cancellationToken)
    {
        foreach (IRedundantDevice mirror in Mirrors(node))
        {
            if (mirror.Members.Any(static m => m.State == "Rebuilding"))
                mirror.WaitInSync(cancellationToken);
        }

        cancellationToken.ThrowIfCancellationRequested();
    }

    private static IEnumerable<IRedundantDevice> Mirrors(DeviceNode node) =>
        node.BlockDevices is [IRedundantDevice mirror] ? [mirror, .. node.Members.SelectMany(Mirrors)] : node.Members.SelectMany(Mirrors);
}
