using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using DmaBufIo.Fixtures.HotPathWorkload;
using DmaBufIo.Importers.NvmePci;
using DmaBufIo.Rings;

namespace DmaBufIo.HotPath.Tests;

/// <summary>Runs the workload in a process of its own.</summary>
internal static class Workload
{
    internal static Assembly Assembly { get; } = typeof(MarkedMethods).Assembly;

    /// <summary>The assemblies whose marks are checked.</summary>
    internal static Assembly[] Product { get; } = [typeof(Ring).Assembly, typeof(NvmePciDriver).Assembly];

    internal static async Task<string> RunAsync(IReadOnlyDictionary<string, string> environment, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(Assembly.Location);
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);

        // What the caller's environment says about compilation must not change what is looked at.
        foreach (string name in start.Environment.Keys.Where(IsOfCompiler).ToArray())
            start.Environment.Remove(name);
        foreach ((string name, string value) in environment)
            start.Environment[name] = value;
        using Process process = Process.Start(start)!;
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        Task<string> output = process.StandardOutput.ReadToEndAsync(cancellation);
        Task<string> error = process.StandardError.ReadToEndAsync(cancellation);
        await process.WaitForExitAsync(cancellation);
        Assert.True(process.ExitCode == 0, $"the workload ended with {process.ExitCode}: {await error}");
        return await output;
    }

    private static bool IsOfCompiler(string name) =>
        name.StartsWith("DOTNET_Jit", StringComparison.Ordinal)
        || name.StartsWith("DOTNET_T", StringComparison.Ordinal)
        || name.StartsWith("DOTNET_ReadyToRun", StringComparison.Ordinal);
}

/// <summary>The listing of one run of the workload; made once for all tests of a class.</summary>
public sealed class WorkloadListing : IAsyncLifetime
{
    private const int Attempts = 5;
    private readonly string _folder = Directory.CreateTempSubdirectory("dmabufio-hotpath-").FullName;

    /// <summary>Why there is no listing; null when there is one.</summary>
    internal static string? Missing { get; } =
        RuntimeInformation.ProcessArchitecture != Architecture.X64 ? "the listing is read for x64 only"
        : Array.Exists(Workload.Product, static a => a.GetCustomAttribute<DebuggableAttribute>()?.IsJITOptimizerDisabled == true)
            ? "built without optimisation: the code that a product runs is that of -c Release"
        : null;

    internal JitListing Listing { get; private set; } = null!;

    internal Overrides Overrides { get; } = new([.. Workload.Product, Workload.Assembly]);

    public async ValueTask InitializeAsync()
    {
        if (Missing is not null)
            return;
        string listing = Path.Combine(_folder, "listing.txt");
        string inlinings = Path.Combine(_folder, "inlinings.txt");
        var environment = new Dictionary<string, string>
        {
            ["DOTNET_TieredPGO"] = "1",
            ["DOTNET_JitDisasm"] = "*",
            ["DOTNET_JitDisasmOnlyOptimized"] = "1",
            ["DOTNET_JitStdOutFile"] = listing,
        };

        // Two threads may compile at once, and the compiler does not keep their lines apart. That is noticed, and then there is another
        // run.
        for (int left = Attempts; Listing is null; left--)
        {
            File.Delete(listing);
            await Workload.RunAsync(environment, "listing", inlinings);
            string[] lines = await File.ReadAllLinesAsync(listing);
            if (JitListing.TryRead(lines, File.ReadLines(inlinings), out JitListing? read, out string problem))
                Listing = read;
            else
                Assert.True(left > 1, $"{Attempts} listings were not readable, the last one: {problem}");
        }
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }
}
