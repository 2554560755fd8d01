using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Copying;

/// <summary>What lies on the files of a destination already: whose they are, and how large the members of their set have to be.</summary>
internal static class MemberMarks
{
    /// <summary>Refuses files that belong to something else than what is about to be written over them.</summary>
    /// <param name="host">Reads them.</param>
    /// <param name="expression">The destination, or a part of it.</param>
    /// <param name="above">The words of the devices that it is a part of.</param>
    /// <exception cref="DmaBufIoException">One does (<c>EBUSY</c>).</exception>
    internal static void Check(DmaBufIoHost host, DeviceExpression expression, IReadOnlyList<string> above)
    {
        if (EndFiles.IsFile(expression))
        {
            string path = Path.GetFullPath(expression.Text!);
            IReadOnlyList<DeviceMark> marks = MarksOn(host, expression);

            // What lies at the end of a device is about the whole of it; what lies before is about what stands on that.
            DeviceMark? whole = marks.FirstOrDefault(static m => m.Offset != 0);
            foreach (DeviceMark mark in whole is null ? marks : [whole])
            {
                if (!mark.Words.Any(w => above.Contains(w, StringComparer.Ordinal)))
                {
                    throw EndFiles.Refused(
                        Errno.EBUSY, "DST", path, $"it is {mark.Description}, and would be written past that",
                        $"Name it as a part of that, or remove the file; or clear it: dd if=/dev/zero of={path} bs=4096 seek={mark.Offset / 4096} count={mark.Length / 4096} conv=notrunc");
                }
            }
        }

        foreach (DeviceExpression member in expression.Members)
            Check(host, member, [.. above, expression.Word]);
    }

    /// <summary>Whether a file that was made has joined something, as far as can be told.</summary>
    internal static bool MayBelong(DmaBufIoHost host, string path)
    {
        try
        {
            return host.MarksOn(new DeviceExpression("nvme", path, new Dictionary<string, DeviceOption>(), [], path, 0)).Count != 0;
        }
        catch (DmaBufIoException)
        {
            return true;
        }
    }

    /// <summary>How large a member must be that joins those which are there.</summary>
    /// <returns>Null when they do not say.</returns>
    internal static long? CapacityIn(DmaBufIoHost host, DeviceExpression expression)
    {
        foreach (DeviceExpression member in expression.Members.Where(EndFiles.IsFile))
        {
            if (MarksOn(host, member).FirstOrDefault(m => m.MemberCapacity != 0 && m.Words.Contains(expression.Word, StringComparer.Ordinal)) is { } mark)
                return mark.MemberCapacity;
        }

        return null;
    }

    private static IReadOnlyList<DeviceMark> MarksOn(DmaBufIoHost host, DeviceExpression file)
    {
        string path = Path.GetFullPath(file.Text!);
        return EndFiles.Look("DST", path) is { Size: > 0 } ? host.MarksOn(file) : [];
    }
}
