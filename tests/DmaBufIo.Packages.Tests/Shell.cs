using System.Diagnostics;

namespace DmaBufIo.Packages.Tests;

/// <summary>How a command ended, and what it wrote.</summary>
internal sealed record Result(string Command, int ExitCode, string Output)
{
    internal Result Succeeded()
    {
        Assert.True(ExitCode == 0, ToString());
        return this;
    }

    internal Result Failed()
    {
        Assert.True(ExitCode != 0, $"It should have failed. {this}");
        return this;
    }

    /// <summary>Some line of the output contains the text.</summary>
    internal Result Says(string text)
    {
        Assert.True(Output.Contains(text, StringComparison.Ordinal), $"It does not say: {text}{Environment.NewLine}{this}");
        return this;
    }

    public override string ToString() => $"{Command} ended with {ExitCode}:{Environment.NewLine}{Output}";
}

/// <summary>Runs commands in a folder. What they write goes into a file: build servers live on with the handles they were given, and would keep a pipe open.</summary>
internal sealed class Shell(string folder, IReadOnlyDictionary<string, string?> environment)
{
    // Decides only when a test gives up.
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(15);

    internal string Folder => folder;

    internal Task<Result> DotnetAsync(params IEnumerable<string> arguments) => RunAsync(["dotnet", .. arguments]);

    internal Task<Result> BashAsync(string script) => RunAsync(["bash", "-euo", "pipefail", "-c", script]);

    internal async Task<Result> RunAsync(string[] command)
    {
        using Running running = Start(command);
        return await running.EndAsync();
    }

    /// <summary>Starts a command that a signal is to reach: one that runs in the background of a shell inherits that it is deaf to SIGINT.</summary>
    internal Running StartInterruptible(string[] command) => Start(["env", "--default-signal=INT,TERM", .. command]);

    internal Running Start(params string[] command)
    {
        string log = Path.GetTempFileName();
        var start = new ProcessStartInfo("sh") { WorkingDirectory = folder };
        foreach (string argument in (string[])["-c", "log=$1; shift; exec \"$@\" >\"$log\" 2>&1 </dev/null", "sh", log, .. command])
            start.ArgumentList.Add(argument);
        foreach (string inherited in start.Environment.Keys.Where(static k => k.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase)).ToArray())
            start.Environment.Remove(inherited); // the build that runs these tests is none of theirs
        foreach ((string name, string? value) in environment)
            start.Environment[name] = value;
        return new Running(string.Join(' ', command), Process.Start(start)!, log);
    }

    /// <summary>A command that runs.</summary>
    internal sealed class Running(string command, Process process, string log) : IDisposable
    {
        internal int Id => process.Id;

        internal string Output => File.ReadAllText(log);

        /// <summary>Waits for its end.</summary>
        internal async Task<Result> EndAsync()
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
            limit.CancelAfter(s_limit);
            try
            {
                await process.WaitForExitAsync(limit.Token);
            }
            catch (OperationCanceledException)
            {
                throw new TimeoutException($"{command} has not come to its end within {s_limit.TotalMinutes:0} minutes:{Environment.NewLine}{Output}");
            }

            return new Result(command, process.ExitCode, Output);
        }

        /// <summary>Waits until it has written something.</summary>
        internal Task WritesAsync(string text) => DoesAsync(() => Task.FromResult(Output.Contains(text, StringComparison.Ordinal)), $"written: {text}");

        /// <summary>Waits until it has done something, while it runs.</summary>
        internal async Task DoesAsync(Func<Task<bool>> isSo, string what)
        {
            long started = Stopwatch.GetTimestamp();
            while (!await isSo())
            {
                if (process.HasExited || Stopwatch.GetElapsedTime(started) > s_limit)
                    Assert.Fail($"{command} has not {what}{Environment.NewLine}{Output}");
                await Task.Delay(20, TestContext.Current.CancellationToken);
            }
        }

        public void Dispose()
        {
            if (!process.HasExited)
                process.Kill(entireProcessTree: true);
            process.Dispose();
            File.Delete(log);
        }
    }
}
