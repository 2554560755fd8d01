using System.Text.Json;
using System.Text.Json.Serialization;
using DmaBufIo.Cli.Benching;
using DmaBufIo.Cli.Benching.Goals;
using DmaBufIo.Cli.Commands;
using DmaBufIo.Cli.Copying;
using DmaBufIo.Errors;

namespace DmaBufIo.Cli.Output;

/// <summary>Data goes to standard output, messages to standard error.</summary>
internal static class CommandOutput
{
    /// <summary>Exit code: everything asked for was done and checked.</summary>
    internal const int Success = 0;

    /// <summary>Exit code: something failed, or the input was wrong.</summary>
    internal const int Failure = 1;

    /// <summary>Exit code of a command that was interrupted, as shells count it: 128 + SIGINT.</summary>
    internal const int Interrupted = 130;

    /// <summary>The object of errors that say that nothing can be printed.</summary>
    internal const string StandardOutput = "standard output";

    /// <exception cref="DmaBufIoException">Standard output cannot be written (<c>EIO</c>).</exception>
    internal static void Data(string line) => Write(() => Console.Out.WriteLine(line));

    internal static void Message(string line)
    {
        try
        {
            Console.Error.WriteLine(line);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Standard error is closed: there is nobody to tell, and the exit code still says how it went.
        }
    }

    internal static void Error(DmaBufIoException e)
    {
        Message($"error: {e.Message}");
        if (e.InnerException is DmaBufIoException cause)
            Message($"  because: {cause.Message}");
    }

    internal static void Json<T>(T value)
    {
        Write(() =>
        {
            using Stream output = Console.OpenStandardOutput();
            JsonSerializer.Serialize(output, value, typeof(T), CommandJson.Default);
            output.WriteByte((byte)'\n');
        });
    }

    private static void Write(Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DmaBufIoException(
                Errno.EIO, "command", StandardOutput, $"it cannot be written: {e.Message.TrimEnd('.')}", "Free space, or let it go somewhere else", inner: e);
        }
    }

    /// <summary>Bytes for people: "16.0 MiB".</summary>
    internal static string Size(double bytes)
    {
        string[] units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        int unit = 0;
        while (bytes >= 1024 && unit < units.Length - 1)
        {
            bytes /= 1024;
            unit++;
        }

        return unit == 0 ? $"{bytes:0} bytes" : $"{bytes:0.0} {units[unit]}";
    }
}

/// <summary>The JSON that commands print: camelCase, nulls left out only where a field means "does not apply".</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true, UseStringEnumConverter = true)]
[JsonSerializable(typeof(CopyReport))]
[JsonSerializable(typeof(PluginListing))]
[JsonSerializable(typeof(DeviceListing))]
[JsonSerializable(typeof(FailureReport))]
[JsonSerializable(typeof(BenchReport))]
[JsonSerializable(typeof(ComparisonReport))]
[JsonSerializable(typeof(MatrixReport))]
internal sealed partial class CommandJson : JsonSerializerContext;
