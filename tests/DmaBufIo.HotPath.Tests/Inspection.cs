using System.Text.RegularExpressions;

namespace DmaBufIo.HotPath.Tests;

/// <summary>An instruction that breaks the promise of a marked method.</summary>
internal sealed record Breach(string Method, string Instruction, string Why)
{
    public override string ToString() => $"{Method}: '{Instruction}': {Why}";
}

/// <summary>
/// Checks the code of marked methods and of all that they call. In no block may there be a locked instruction, an xchg with memory or an
/// mfence. In blocks that a request can pass (see <see cref="JitBody.Passed"/>) nothing may be allocated and no lock of the runtime
/// taken.
/// </summary>
/// <remarks>
/// What is called there is looked at in the same way when it has code that stays, marked or not. What has none was called less often than
/// it takes to be compiled again (30 times, in hundreds of thousands of requests): it is a slow exit, and not part of the way. Slow exits
/// are listed in
/// <see cref="SlowExits"/>. A call through a method table is followed to the overrides that have code that stays.
/// Two calls lead out of the framework: a device's registers (<see cref="Pci.PciFunction"/>), and the runtime's own helpers for reading a
/// thread-static field, casting, copying and storing references, none of which allocates or synchronises.
/// </remarks>
internal sealed partial class Inspection(JitListing listing, Overrides overrides)
{
    private static readonly string[] s_locks =
    [
        "System.Threading.Monitor:", "System.Threading.Lock:", "System.Threading.Interlocked:", "System.Threading.SpinLock:",
        "CORINFO_HELP_MON_",
    ];

    private static readonly string[] s_allocators = ["CORINFO_HELP_NEW", "CORINFO_HELP_BOX", "CORINFO_HELP_STRCNS", "System.GC:Allocate"];

    // Each stands for one thing that the runtime does without allocating or synchronising.
    private static readonly string[] s_helpers =
    [
        "CORINFO_HELP_ASSIGN_", "CORINFO_HELP_CHECKED_ASSIGN_", "CORINFO_HELP_BULK_WRITEBARRIER",
        "CORINFO_HELP_ISINSTANCEOF", "CORINFO_HELP_CHKCAST",
        "CORINFO_HELP_POLL_GC", "CORINFO_HELP_GETDYNAMIC_", "CORINFO_HELP_MEMSET", "CORINFO_HELP_MEMZERO", "CORINFO_HELP_MEMCPY",
        "CORINFO_HELP_ARRADDR_ST", "CORINFO_HELP_STACK_PROBE", "CORINFO_HELP_RNGCHKFAIL", "CORINFO_HELP_THROW", "CORINFO_HELP_OVERFLOW",
    ];

    // Wakes threads that wait: a request that finds one pays for it, others do not come here, which the counts of steps show. On a loaded machine it
    // is called often enough to have code that stays.
    private static readonly string[] s_wakes = ["DmaBufIo.Sync.WaitQueue:WakeAll("];

    // Copies of any length; for long ones it leaves for native code, as a request's own copies of list entries never do.
    private static readonly string[] s_copies = ["System.SpanHelpers:Memmove(", "System.Buffer:Memmove("];

    private readonly HashSet<JitBody> _seen = [];
    private readonly List<Breach> _breaches = [];

    internal IReadOnlyList<Breach> Breaches => _breaches;

    /// <summary>Marked methods of which there is no code: nothing can be said about them.</summary>
    internal List<MethodKey> Missing { get; } = [];

    /// <summary>What marked methods call seldom or never.</summary>
    internal SortedSet<string> SlowExits { get; } = [];

    /// <summary>The methods whose code was looked at.</summary>
    internal IEnumerable<string> Seen => _seen.Select(static b => b.Name);

    internal void Add(MethodKey marked)
    {
        // Without a body of its own it was inlined wherever it is called; the code is then looked for there, with all that is around it.
        JitBody[] bodies = [.. listing.Find(marked)];
        if (bodies.Length == 0)
            bodies = [.. listing.HostsOf(marked)];
        if (bodies.Length == 0)
            Missing.Add(marked);
        foreach (JitBody body in bodies)
            Follow(body);
    }

    private void Follow(JitBody first)
    {
        var open = new Stack<JitBody>([first]);
        while (open.TryPop(out JitBody? body))
        {
            if (!_seen.Add(body))
                continue;
            foreach (string instruction in body.Blocks.SelectMany(static b => b.Instructions))
            {
                if (Locked().IsMatch(instruction))
                    _breaches.Add(new Breach(body.Name, instruction, "an interlocked instruction or a full fence"));
            }

            foreach (JitBlock block in body.Passed())
            {
                for (int i = 0; i < block.Instructions.Count; i++)
                {
                    if (Call().Match(block.Instructions[i]) is { Success: true } call)
                        CheckCall(body, call.Groups["target"].Value.Trim(), i == 0 ? "" : block.Instructions[i - 1], open);
                }
            }
        }
    }

    private void CheckCall(JitBody body, string target, string before, Stack<JitBody> open)
    {
        if (Direct().Match(target) is { Success: true } direct)
        {
            string name = direct.Groups["name"].Value;
            if (Starts(name, s_locks))
                _breaches.Add(new Breach(body.Name, target, "takes a lock of the runtime"));
            else if (Starts(name, s_allocators))
                _breaches.Add(new Breach(body.Name, target, "allocates"));
            else if (name.StartsWith("CORINFO_", StringComparison.Ordinal) && !Starts(name, s_helpers))
                _breaches.Add(new Breach(body.Name, target, "a helper of the runtime that is not known to be harmless"));
            else if (Starts(name, s_copies))
                return;
            else if (Starts(name, s_wakes))
                SlowExits.Add(name);
            else if (listing.Find(name) is { } callee)
                open.Push(callee);
            else if (!name.StartsWith("CORINFO_", StringComparison.Ordinal))
                SlowExits.Add(name);
        }
        else if (Virtual().Match(target) is { Success: true } slot)
        {
            foreach (JitBody callee in overrides.Of(MethodKey.Parse(slot.Groups["name"].Value)).SelectMany(listing.Find))
                open.Push(callee);
        }
        else if (!RuntimeCall(target, before))
        {
            _breaches.Add(new Breach(body.Name, target, "a call of which the listing does not tell where it leads"));
        }
    }

    // A register that was loaded with a constant: the accessor of thread-static fields, or a native function that the listing names.
    private static bool RuntimeCall(string target, string before) =>
        target.Contains("; Interop+Sys:GetLowResolutionTimestamp", StringComparison.Ordinal)
        || (Register().IsMatch(target) && before.StartsWith($"mov      {target}, 0x", StringComparison.Ordinal))
        || target.StartsWith("G_M", StringComparison.Ordinal);

    private static bool Starts(string name, string[] prefixes) => Array.Exists(prefixes, p => name.StartsWith(p, StringComparison.Ordinal));

    [GeneratedRegex(@"^(lock\b|mfence\b|xchg\s.*\[|xacquire|xrelease)")]
    private static partial Regex Locked();

    // A label is a part of the same method, a register alone a jump through a table.
    [GeneratedRegex(@"^(call|(tail|rex)\.jmp)\s+(?<target>.+)$")]
    private static partial Regex Call();

    [GeneratedRegex(@"^\[?(?<name>(CORINFO_\w+|[^\[\]\s]+(\[.*?\])?:.+?))\]?$")]
    private static partial Regex Direct();

    [GeneratedRegex(@"^\[r\w+([+*]\w+)*\](?<name>.+)$")]
    private static partial Regex Virtual();

    [GeneratedRegex(@"^r\w+$")]
    private static partial Regex Register();
}
