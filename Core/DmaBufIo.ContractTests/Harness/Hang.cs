using System.Collections.Concurrent;
using System.Diagnostics;
using DmaBufIo.Diagnostics;

namespace DmaBufIo.ContractTests;

/// <summary>What is waited for and does not come. A limit decides only when a contract gives up, never whether it passes.</summary>
internal static class Hang
{
    private const string LimitName = "DmaBufIo.ContractTests.Limit";
    private static readonly ConcurrentDictionary<Type, bool> s_hung = [];
    private static HashSet<string> s_older = [];
    private static Type? s_contract;
    private static long s_began;

    private static readonly TimeSpan s_usual =
        TimeSpan.FromSeconds(int.TryParse(Environment.GetEnvironmentVariable("DMABUFIO_CONTRACT_LIMIT"), out int seconds) && seconds > 0 ? seconds : 30);

    /// <summary>
    /// 30 s, or as many seconds as the environment's DMABUFIO_CONTRACT_LIMIT says, or as the running process says by <c>AppContext.SetData("DmaBufIo.ContractTests.Limit", TimeSpan)</c>: for those who
    /// know that it will not come.
    /// </summary>
    internal static TimeSpan Usual => AppContext.GetData(LimitName) is TimeSpan limit ? limit : s_usual;

    /// <summary>How long the fact that runs now waits for what should come at once. Facts run one after another.</summary>
    internal static TimeSpan Limit { get; private set; } = Usual;

    /// <summary>
    /// A fact begins. Where one of the same contract has waited in vain, the run is red, and the others wait a third of the time: what hangs in one mostly hangs in many.
    /// </summary>
    /// <param name="contract">The contract.</param>
    /// <param name="patience">What its author says; it is not shortened.</param>
    internal static void Begin(Type contract, TimeSpan? patience)
    {
        s_contract = contract;
        s_began = Stopwatch.GetTimestamp();
        s_older = [.. DmaBufIoDiagnostics.Snapshot().Tokens.Select(static t => t.Token)];
        bool isShorter = patience is null && AppContext.GetData(LimitName) is null && s_hung.ContainsKey(contract);
        Limit = patience ?? (isShorter ? Usual / 3 : Usual);
    }

    /// <summary>Waits for a condition that other threads bring about.</summary>
    /// <param name="condition">Free of side effects.</param>
    /// <param name="limit">When to give up; null for <see cref="Limit"/>.</param>
    /// <returns>False when it did not come within the limit.</returns>
    internal static bool Until(Func<bool> condition, TimeSpan? limit = null)
    {
        limit ??= Limit;
        long started = Stopwatch.GetTimestamp();
        var spin = default(SpinWait);
        while (!condition())
        {
            if (Stopwatch.GetElapsedTime(started) > limit)
                return condition() || HasHung();
            spin.SpinOnce();
        }

        return true;
    }

    internal static TimeoutException Of(string what) => new($"'{what}' has not come to its end. {Waited()}");

    /// <summary>How long was waited, and what everything is waiting for: for messages.</summary>
    internal static string Waited()
    {
        string state = State();
        return $"Waited for {Limit.TotalSeconds:0.#} s (DMABUFIO_CONTRACT_LIMIT){(state.Length == 0 ? "." : $":{Environment.NewLine}{state}")}";
    }

    /// <summary>Who waits for what, who holds which lock, which request uses which map: for messages. What was so before the fact began is not its.</summary>
    internal static string State()
    {
        Snapshot snapshot = DmaBufIoDiagnostics.Snapshot();
        TimeSpan since = Stopwatch.GetElapsedTime(s_began);
        return string.Join(
            Environment.NewLine,
            [
                .. snapshot.Waits.Where(w => w.Waited < since).Select(static w => $"    thread {w.Thread} waits for {w.WaitsFor} since {w.Waited.TotalSeconds:0.0} s"),
                .. snapshot.Locks.Where(l => l.Holder is not null && l.HeldFor < since).Select(static l => $"    the reservation lock of {l.Buffer} is held by {l.Holder} since {l.HeldFor.TotalSeconds:0.0} s"),
                .. snapshot.Fences.Where(f => f.Age < since).Select(static f => $"    fence {f.Fence} of {f.Buffer}, {f.Usage}, has not signalled since {f.Age.TotalSeconds:0.0} s"),
                .. snapshot.Tokens.Where(static t => t.Users != 0 && !s_older.Contains(t.Token)).Select(static t => $"    token {t.Token} of {t.File} and {t.Buffer}: {t.Users} requests, {t.State}"),
                .. snapshot.KilledMaps.Where(static m => !s_older.Contains(m.Token)).Select(static m => $"    killed map {m.Generation} of {m.Token}: {m.Users} requests, kept by {m.KeptBy}"),
            ]);
    }

    private static bool HasHung()
    {
        if (s_contract is not null)
            s_hung[s_contract] = true;
        return false;
    }
}
