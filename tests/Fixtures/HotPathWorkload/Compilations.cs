using System.Diagnostics.Tracing;
using System.Reflection;
using System.Runtime.CompilerServices;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>
/// Listens to the compiler: which methods have the code that stays, and what was inlined where. A method that has no body of its own in a
/// listing is found again by this.
/// </summary>
internal sealed class Compilations : EventListener
{
    private const string RuntimeEvents = "Microsoft-Windows-DotNETRuntime";
    private const EventKeywords Jit = (EventKeywords)0x10;
    private const EventKeywords JitTracing = (EventKeywords)0x1000;
    private const uint Optimized = 2;
    private const uint OptimizedTier1 = 4;
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);
    private readonly HashSet<(string Type, int Token)> _final = [];
    private readonly HashSet<string> _inlinees = [];
    private readonly HashSet<string> _inlinings = [];
    private readonly ManualResetEventSlim _last = new();

    /// <summary>True when the method has code that stays, or is a part of other methods' code.</summary>
    internal bool HasCode(MethodBase method)
    {
        Type type = method.DeclaringType!;
        string name = (type.IsGenericType ? type.GetGenericTypeDefinition() : type).FullName!;
        lock (_final)
            return _final.Contains((name, method.MetadataToken)) || _inlinees.Contains($"{name}:{method.Name}");
    }

    /// <summary>
    /// Waits for the events of everything compiled so far, and writes each inlining in our namespaces as a line: inlinee, tab, method it
    /// went into.
    /// </summary>
    internal void WriteInlinings(string path)
    {
        // Events come in order, so the event of a compilation that is provoked now is the last one.
        _ = Provoke(1);
        if (!_last.Wait(s_limit))
            throw new InvalidOperationException("the runtime's events did not come");
        lock (_final)
            File.WriteAllLines(path, _inlinings);
    }

    public override void Dispose()
    {
        base.Dispose();
        _last.Dispose();
    }

    protected override void OnEventSourceCreated(EventSource eventSource)
    {
        if (eventSource.Name == RuntimeEvents)
            EnableEvents(eventSource, EventLevel.Verbose, Jit | JitTracing);
    }

    protected override void OnEventWritten(EventWrittenEventArgs eventData)
    {
        switch (eventData.EventName)
        {
            case { } name when name.StartsWith("MethodLoadVerbose", StringComparison.Ordinal):
                // The runtime's JitOptimizationTier.
                uint tier = (Value<uint>(eventData, "MethodFlags") >> 7) & 7;
                if (tier is Optimized or OptimizedTier1)
                {
                    lock (_final)
                    {
                        string type = WithoutArguments(Value<string>(eventData, "MethodNamespace"));
                        _final.Add((type, (int)Value<uint>(eventData, "MethodToken")));
                    }
                }

                break;
            case { } name when name.StartsWith("MethodJitInliningSucceeded", StringComparison.Ordinal):
                AddInlining(Name(eventData, "Inlinee"), Name(eventData, "MethodBeingCompiled"));
                break;
        }
    }

    private void AddInlining(string inlinee, string into)
    {
        if (!inlinee.StartsWith("DmaBufIo.", StringComparison.Ordinal))
            return;
        lock (_final)
        {
            _inlinees.Add(WithoutArguments(inlinee.Split(':')[0]) + ":" + inlinee.Split(':')[^1]);
            _inlinings.Add($"{inlinee}\t{into}");
        }

        if (inlinee.EndsWith($":{nameof(Provoked)}", StringComparison.Ordinal))
            _last.Set();
    }

    // Compiled once, optimised, when it is first called.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static int Provoke(int value) => Provoked(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Provoked(int value) => value + 1;

    private static string Name(EventWrittenEventArgs eventData, string role) =>
        $"{Value<string>(eventData, $"{role}Namespace")}:{Value<string>(eventData, $"{role}Name")}";

    private static T Value<T>(EventWrittenEventArgs eventData, string name) =>
        (T)eventData.Payload![eventData.PayloadNames!.IndexOf(name)]!;

    private static string WithoutArguments(string name) => name.Split('[')[0];
}
