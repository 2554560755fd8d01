using System.Diagnostics;
using System.Text;
using System.Text.Json;

namespace DmaBufIo.Cli.Tests;

/// <summary>Runs the command as a process.</summary>
internal static class CommandProcess
{
    internal static string Folder { get; } = Path.Combine(AppContext.BaseDirectory, "command");

    internal static string Executable { get; } = Path.Combine(Folder, "dmabufio.dll");

    internal static Process Start(string[] arguments, Action<string>? onError = null, string? wrapper = null)
    {
        var start = new ProcessStartInfo
        {
            FileName = wrapper is null ? "env" : "unshare",
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        if (wrapper is null)
        {
            // What runs in the background of a shell inherits that it is deaf to SIGINT.
            foreach (string argument in (string[])["--default-signal=INT", "dotnet", Executable, .. arguments])
                start.ArgumentList.Add(argument);
        }
        else
        {
            start.ArgumentList.Add("-Urm");
            start.ArgumentList.Add("sh");
            start.ArgumentList.Add("-c");
            start.ArgumentList.Add($"{wrapper} && exec dotnet \"$0\" \"$@\"");
            start.ArgumentList.Add(Executable);
            foreach (string argument in arguments)
                start.ArgumentList.Add(argument);
        }

        var process = new Process { StartInfo = start };
        if (onError is not null)
            process.ErrorDataReceived += (_, line) => onError(line.Data ?? "");
        process.Start();
        return process;
    }

    internal static async Task<Result> RunAsync(params string[] arguments) => await FinishAsync(Start(arguments));

    internal static async Task<Result> FinishAsync(Process process)
    {
        using (process)
        {
            CancellationToken cancellation = TestContext.Current.CancellationToken;
            Task<string> output = process.StandardOutput.ReadToEndAsync(cancellation);
            Task<string> error = process.StandardError.ReadToEndAsync(cancellation);
            await process.WaitForExitAsync(cancellation);
            return new Result(process.ExitCode, await output, await error);
        }
    }

    internal sealed record Result(int ExitCode, string Output, string Error)
    {
        internal JsonElement Json => JsonDocument.Parse(Output).RootElement;

        /// <summary>One message that names what the user needs; no stack trace; the exit code says that it failed.</summary>
        internal void AssertRefused(params string[] fragments)
        {
            Assert.NotEqual(0, ExitCode);
            Assert.Contains("error: ", Error, StringComparison.Ordinal);
            Assert.DoesNotContain("   at ", Error, StringComparison.Ordinal);
            Assert.DoesNotContain("Unhandled", Error, StringComparison.Ordinal);
            foreach (string fragment in fragments)
                Assert.Contains(fragment, Error, StringComparison.Ordinal);
        }

        public override string ToString() => new StringBuilder().AppendLine($"exit code {ExitCode}").AppendLine(Output).Append(Error).ToString();
    }
}
