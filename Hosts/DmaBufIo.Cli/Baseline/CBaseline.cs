using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace DmaBufIo.Cli.Baseline;

/// <summary>One run of a loop in C.</summary>
/// <param name="Nanoseconds">What all iterations together took.</param>
/// <param name="Checksum">The sum of the numbers of the requests that ended well: that of all numbers below the iterations.</param>
internal readonly record struct CMeasurement(long Nanoseconds, ulong Checksum);

/// <summary>
/// The request path in C, compiled when it is asked for, by the C compiler of the machine: what the framework's own path is measured
/// against. See baseline.c, which is embedded here.
/// </summary>
/// <remarks>Every run sets its own memory up before its clock starts, so runs on several threads do not meet. Disposed when no run is
/// under way.</remarks>
internal sealed class CBaseline : IDisposable
{
    private const string Source = "baseline.c";
    private const string Options = "-O2 -shared -fPIC -fvisibility=hidden";
    private const int NoMemory = -1;
    private static readonly string[] s_compilers = ["cc", "gcc", "clang"];
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(1);
    private readonly Loop _nvmeLayer;
    private readonly Loop _wholeStack;
    private nint _library;

    private CBaseline(string compiler, nint library)
    {
        Compiler = compiler;
        _library = library;
        _nvmeLayer = Marshal.GetDelegateForFunctionPointer<Loop>(NativeLibrary.GetExport(library, "nvme_layer"));
        _wholeStack = Marshal.GetDelegateForFunctionPointer<Loop>(NativeLibrary.GetExport(library, "whole_stack"));
    }

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    private delegate long Loop(long iterations, int depth, out ulong checksum);

    /// <summary>The compiler and its options, for reports.</summary>
    internal string Compiler { get; }

    /// <summary>Compiles and loads the loops.</summary>
    /// <param name="reason">Why there are none, for people; empty when there are.</param>
    /// <param name="compilers">The compilers to try, in order; null for cc, gcc, clang.</param>
    /// <returns>The loops, or null: never throws for what the machine lacks.</returns>
    internal static CBaseline? TryBuild(out string reason, string[]? compilers = null)
    {
        string? folder = null;
        try
        {
            folder = Directory.CreateTempSubdirectory("dmabufio-baseline-").FullName;
            return TryBuildIn(folder, compilers ?? s_compilers, out reason);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or TypeLoadException or BadImageFormatException)
        {
            reason = $"the C baseline could not be compiled or loaded: {e.Message}";
            return null;
        }
        finally
        {
            // What is loaded stays usable without its file.
            if (folder is not null)
                Remove(folder);
        }
    }

    /// <summary>The NVMe queue layer alone; 4 KiB reads over a null device on the same thread.</summary>
    /// <param name="iterations">Requests, 1 or more.</param>
    /// <param name="depth">Requests per batch, 1 to 512.</param>
    internal CMeasurement NvmeLayer(long iterations, int depth) => Run(_nvmeLayer, iterations, depth);

    /// <summary>
    /// The whole stack, from the ring's preparation to the completion; 4 KiB reads over a null device on the same thread.
    /// </summary>
    /// <param name="iterations">Requests, 1 or more.</param>
    /// <param name="depth">Requests in flight, 1 to 512.</param>
    internal CMeasurement WholeStack(long iterations, int depth) => Run(_wholeStack, iterations, depth);

    /// <inheritdoc/>
    public void Dispose()
    {
        nint library = Interlocked.Exchange(ref _library, 0);
        if (library != 0)
            NativeLibrary.Free(library);
    }

    private static CBaseline? TryBuildIn(string folder, string[] compilers, out string reason)
    {
        string source = Path.Combine(folder, Source);
        string library = Path.Combine(folder, "baseline.so");
        using (Stream embedded = typeof(CBaseline).Assembly.GetManifestResourceStream(Source)!)
        using (FileStream file = File.Create(source))
            embedded.CopyTo(file);
        reason = $"no C compiler was found (tried {string.Join(", ", compilers)})";
        foreach (string compiler in compilers)
        {
            if (Compile(compiler, source, library) is not { } failure)
                continue;
            if (failure.Length == 0)
            {
                reason = "";
                return Load($"{compiler} {Options}", library);
            }

            reason = $"{compiler} does not compile the C baseline: {failure}";
        }

        return null;
    }

    private static CBaseline Load(string compiler, string path)
    {
        nint library = NativeLibrary.Load(path);
        try
        {
            return new CBaseline(compiler, library);
        }
        catch
        {
            NativeLibrary.Free(library);
            throw;
        }
    }

    /// <summary>Runs a compiler.</summary>
    /// <returns>Null when there is no such compiler; else what it complained about, empty when it succeeded.</returns>
    private static string? Compile(string compiler, string source, string library)
    {
        var start = new ProcessStartInfo(compiler) { RedirectStandardError = true, RedirectStandardOutput = true };
        foreach (string option in Options.Split(' '))
            start.ArgumentList.Add(option);
        start.ArgumentList.Add("-o");
        start.ArgumentList.Add(library);
        start.ArgumentList.Add(source);
        try
        {
            using Process process = Process.Start(start)!;
            Task<string> error = process.StandardError.ReadToEndAsync();
            Task<string> output = process.StandardOutput.ReadToEndAsync();
            if (!process.WaitForExit(s_limit))
            {
                process.Kill(entireProcessTree: true);
                return $"it did not end within {s_limit.TotalSeconds:0} s";
            }

            string text = $"{error.Result}{output.Result}".Trim();
            return process.ExitCode == 0 ? "" : $"exit code {process.ExitCode}: {text}";
        }
        catch (Win32Exception)
        {
            return null;
        }
    }

    private static void Remove(string folder)
    {
        try
        {
            Directory.Delete(folder, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A leftover in the folder for temporary files is no reason to fail a measurement.
            Trace.WriteLine($"{folder} was not removed: {e.Message}");
        }
    }

    private CMeasurement Run(Loop loop, long iterations, int depth)
    {
        ObjectDisposedException.ThrowIf(_library == 0, this);
        ArgumentOutOfRangeException.ThrowIfLessThan(iterations, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(depth, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(depth, 512);
        long nanoseconds = loop(iterations, depth, out ulong checksum);
        return nanoseconds switch
        {
            >= 0 => new CMeasurement(nanoseconds, checksum),
            NoMemory => throw new InsufficientMemoryException("there is no memory for the C baseline"),
            _ => throw new InvalidOperationException($"the C baseline lost requests or ended some with an error (checksum {checksum})"),
        };
    }
}
