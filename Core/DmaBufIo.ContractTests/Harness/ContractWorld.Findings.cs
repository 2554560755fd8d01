using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <content>What a fact finds: broken rules, and what else was seen when one was.</content>
public sealed partial class ContractWorld
{
    private const int SeenAtMost = 2;
    private readonly List<DriverFault> _driverFaults = [];
    private readonly HashSet<PuppetMapping> _leftBeside = [];
    private volatile DmaBufIoException? _secondEnd;
    private bool _faultsExpected;
    private bool _driverFaultsExpected;

    /// <summary>What is special about this run of a fact, for messages: a design, a direction. Empty for nothing.</summary>
    internal string Situation { get; set; } = "";

    /// <summary>The page of the contract, for messages; null for that of the rule.</summary>
    internal string? Page { get; init; }

    /// <summary>What callbacks of drivers have thrown so far.</summary>
    internal IReadOnlyList<DriverFault> DriverFaults
    {
        get
        {
            lock (_driverFaults)
                return [.. _driverFaults];
        }
    }

    /// <summary>What the pool of bios has reported (<see cref="Block.BioPool.End"/>); null for nothing.</summary>
    internal DmaBufIoException? SecondEnd => _secondEnd;

    /// <summary>The mappings that are live now, but for those that <see cref="Beside"/> has left.</summary>
    internal IReadOnlyList<PuppetMapping> Mappings => [.. Fabric.Mappings.Where(m => !_leftBeside.Contains(m))];

    /// <summary>From now on refused accesses are what the fact is about.</summary>
    internal void ExpectFaults() => _faultsExpected = true;

    /// <summary>From now on exceptions from callbacks of the driver are what the fact is about.</summary>
    internal void ExpectDriverFaults() => _driverFaultsExpected = true;

    /// <summary>
    /// Does something that the fact is not about, with queues of its own. What it leaves mapped is told when the world closes, and not by the fact that counts something else.
    /// </summary>
    internal void Beside(Action work)
    {
        HashSet<PuppetMapping> before = [.. Fabric.Mappings];
        work();
        _leftBeside.UnionWith(Fabric.Mappings.Where(m => !before.Contains(m) && !IsOfBuffer(m)));
    }

    /// <summary>A rule is broken unless the condition holds.</summary>
    /// <param name="holds">The condition.</param>
    /// <param name="rule">The rule's number.</param>
    /// <param name="did">What the driver did otherwise, as a sentence.</param>
    internal void Check(bool holds, string rule, string did)
    {
        if (!holds)
            throw Broken(rule, did);
    }

    /// <summary>Waits for a condition; a rule is broken when it does not come.</summary>
    internal void Eventually(Func<bool> condition, string rule, string did) => Eventually(condition, rule, () => did);

    /// <summary>Waits for a condition; what is said of it is known only when it has not come.</summary>
    internal void Eventually(Func<bool> condition, string rule, Func<string> did)
    {
        if (!Hang.Until(() => condition() || SecondEnd is not null))
            throw Broken(rule, $"{did()} {Hang.Waited()}");
        if (SecondEnd is not null)
            throw Broken(rule, did());
    }

    /// <summary>The exception that says which rule is broken.</summary>
    /// <param name="rule">The rule's number.</param>
    /// <param name="did">What the driver did, as a sentence.</param>
    /// <param name="inner">The cause, or null.</param>
    /// <param name="with">What must be in the environment to see it again: a seed. Empty for nothing.</param>
    internal BrokenRuleException Broken(string rule, string did, Exception? inner = null, string with = "")
    {
        // A bio that has ended twice is the cause of whatever is seen after it: its place may be two requests' by then.
        DmaBufIoException? second = SecondEnd;
        if (second is not null && rule != "N8")
            (rule, did) = ("N8", $"{second.Subject} ({second.Range}): {second.Problem}. After that: {did}");
        return new BrokenRuleException(rule, did, Situation, with.Length == 0 ? _fact.Repeat : $"{with} {_fact.Repeat}", Seen(), inner, Page);
    }

    /// <summary>Runs something that should not throw; a rule is broken when it does.</summary>
    internal T Expect<T>(string rule, string doing, Func<T> act)
    {
        try
        {
            return act();
        }
        catch (Exception e) when (e is not BrokenRuleException and not OutOfMemoryException)
        {
            throw Broken(rule, $"{doing} it threw {e.GetType().Name}: {e.Message}", e);
        }
    }

    /// <summary>Waits until an actor has returned; a rule is broken when it does not. What it has thrown comes out here.</summary>
    internal void Ends(IActor actor, string rule, string did)
    {
        if (!Hang.Until(() => actor.HasEnded))
            throw Broken(rule, $"{did} {Hang.Waited()}");
        actor.Join();
    }

    /// <summary>Does something that should come to its end by itself; a rule is broken when it does not.</summary>
    internal void Ends(string name, Action body, string rule, string did) => Ends(Actors.Start(name, body), rule, did);

    /// <summary>Closes everything and looks at what is left. Called by the contract when the fact has found nothing; <see cref="Dispose"/> alone looks at nothing.</summary>
    internal void CloseAndCheck()
    {
        _threads.JoinAll();
        CutStrings();
        if (SecondEnd is not null)
            throw Broken("N8", "a bio was ended that was not in flight.");
        foreach (PuppetExporter buffer in _buffers)
            Eventually(() => buffer.Buffer.References == 1, "T10", () => $"{buffer.Buffer.References - 1} references on the buffer {buffer.Buffer.Name} are held although every registration was removed and every file was closed.");
        foreach (PuppetExporter buffer in _buffers)
            Check(buffer.LiveTables == 0, "T8", $"{buffer.LiveTables} of {buffer.LiveTables + buffer.UnmapCalls} mappings of the buffer {buffer.Buffer.Name} were not given back.");
        Ends("closing", Host.CloseAll, "T10", "closing the devices did not come to its end.");
        DmaBufIoDiagnostics.DriverFaulted -= OnDriverFault;
        if (!_faultsExpected)
            Check(Iommu.Faults == 0 && Iommu.StaleAccesses == 0, "F7", "the device touched memory that it may not.");
        if (Quarantine.TakeStray() is { } earlier)
            throw Broken("F7", $"memory of a buffer that was given back was written to. It was the buffer of an earlier fact, {earlier}: run that one alone.");
        CheckMappings();
        if (!_driverFaultsExpected && DriverFaults is [var fault, ..])
            throw Broken("L4", $"{fault.Callback} threw {fault.Exception.GetType().Name}: {fault.Exception.Message}", fault.Exception);
    }

    // What maps have made is T10's; all else that a driver maps for itself is what it has to give back on every path.
    private void CheckMappings()
    {
        IReadOnlyList<PuppetMapping> left = Fabric.Mappings;
        if (left.Count == 0 && Iommu.LeakedMappings == 0)
            return;
        bool isOfBuffer = left.Any(IsOfBuffer);
        PuppetMapping? example = left.Count == 0 ? null : isOfBuffer ? left.First(IsOfBuffer) : left[0];
        string purpose = example?.Purpose ?? string.Join(", ", Iommu.LeakedMappingDescriptions.Take(1));
        throw Broken(
            isOfBuffer ? "T10" : "N6",
            $"{Math.Max(left.Count, (int)Iommu.LeakedMappings)} mappings are left after the device was closed, for example of '{purpose}'.");
    }

    private bool IsOfBuffer(PuppetMapping mapping) => _buffers.Exists(b => b.Buffer.Name == mapping.Purpose);

    private List<string> Seen()
    {
        var seen = new List<string>();
        if (!_faultsExpected)
            AddSome(seen, [.. Iommu.Reports.Select(static r => $"{r}")]);
        if (!_driverFaultsExpected || SecondEnd is not null)
            AddSome(seen, [.. DriverFaults.Select(static f => $"{f.Callback} threw {f.Exception.GetType().Name}: {f.Exception.Message}")]);
        return seen;
    }

    private static void AddSome(List<string> seen, IReadOnlyList<string> lines)
    {
        seen.AddRange(lines.Take(SeenAtMost));
        if (lines.Count > SeenAtMost)
            seen.Add($"and {lines.Count - SeenAtMost} more of these");
    }

    private void OnDriverFault(DriverFault fault)
    {
        lock (_driverFaults)
            _driverFaults.Add(fault);
        if (fault.Exception is DmaBufIoException { Layer: "Block", Rule: "N8" } second)
            _secondEnd ??= second;
    }
}
