using DmaBufIo.Fixtures.HotPathWorkload;

namespace DmaBufIo.HotPath.Tests;

public sealed class HotPathTests : IClassFixture<WorkloadListing>
{
    private readonly WorkloadListing _workload;

    public HotPathTests(WorkloadListing workload)
    {
        Assert.SkipWhen(WorkloadListing.Missing is not null, WorkloadListing.Missing ?? "");
        _workload = workload;
    }

    [Fact]
    public void T6_and_the_rule_of_the_house_marked_methods_hold_no_interlocked_instruction_take_no_lock_and_allocate_nothing()
    {
        var inspection = new Inspection(_workload.Listing, _workload.Overrides);
        MethodKey[] marked = [.. Workload.Product.SelectMany(MarkedMethods.Of).Select(MethodKey.Of)];
        foreach (MethodKey method in marked)
            inspection.Add(method);
        TestContext.Current.SendDiagnosticMessage(
            $"{marked.Length} marked methods, {inspection.Seen.Count()} bodies; slow exits:\n{string.Join("\n", inspection.SlowExits)}");
        Assert.True(inspection.Missing.Count == 0, $"the workload does not reach these:\n{string.Join("\n", inspection.Missing)}");
        Assert.True(inspection.Breaches.Count == 0, string.Join("\n", inspection.Breaches));
    }

    [Fact]
    public void The_marks_cover_the_way_of_a_request_from_the_ring_to_the_doorbell_and_back()
    {
        string[] way =
        [
            "DmaBufIo.Rings.Ring:TryReadFixed", "DmaBufIo.Rings.Ring:Submit",
            "DmaBufIo.Tokens.DmaBufToken:TryGetMap", "DmaBufIo.Sync.RequestGate:TryEnter",
            "DmaBufIo.Iov.IovIter:ForMap", "DmaBufIo.Files.BlockDeviceFileQueue:ReadIter", "DmaBufIo.Block.BioPool:TryAllocate",
            "DmaBufIo.Importers.NvmePci.Queues.NvmeQueue:Submit", "DmaBufIo.Importers.NvmePci.Protocol.PrpList:Build",
            "DmaBufIo.Importers.NvmePci.Queues.NvmeQueue:Commit",
            "DmaBufIo.Importers.NvmePci.Queues.NvmeQueue:Poll", "DmaBufIo.Block.BioPool:Dispatch",
            "DmaBufIo.Rings.Ring:DmaBufIo.Block.IBioOwner.BiosEnded", "DmaBufIo.Tokens.DmaBufToken:Drop", "DmaBufIo.Sync.RequestGate:Exit",
            "DmaBufIo.Rings.Ring:Reap", "DmaBufIo.Io.IoContext:Enter", "DmaBufIo.Io.IoContext:Leave",
        ];
        IEnumerable<MethodKey> keys = Workload.Product.SelectMany(MarkedMethods.Of).Select(MethodKey.Of);
        HashSet<string> marked = [.. keys.Select(static k => $"{k.Type}:{k.Name}")];
        Assert.All(way, m => Assert.Contains(m, marked));
    }

    [Theory]
    [InlineData("Increment", "interlocked")]
    [InlineData("Swap", "interlocked")]
    [InlineData("Fence", "interlocked")]
    [InlineData("IncrementWhenRare", "interlocked")]
    [InlineData("InlinedIncrement", "interlocked")]
    [InlineData("TakeLock", "takes a lock")]
    [InlineData("TakeMonitor", "takes a lock")]
    [InlineData("Allocate", "allocates")]
    [InlineData("Box", "allocates")]
    [InlineData("CallsUnmarked", "allocates")]
    [InlineData("CallsVirtual", "interlocked")]
    public void A_marked_method_that_breaks_the_promise_is_caught(string method, string why)
    {
        Inspection inspection = Inspect(method);
        Assert.Empty(inspection.Missing);
        Assert.Contains(inspection.Breaches, b => b.Why.Contains(why, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("Clean")]
    [InlineData("ThrowsOnly")]
    [InlineData("AllocatesInHandler")]
    public void A_marked_method_that_keeps_the_promise_passes(string method)
    {
        Inspection inspection = Inspect(method);
        Assert.Empty(inspection.Missing);
        Assert.Empty(inspection.Breaches);
    }

    [Fact]
    public void A_marked_method_that_did_not_run_is_not_taken_for_clean() => Assert.Single(Inspect("NeverCalled").Missing);

    private Inspection Inspect(string method)
    {
        var inspection = new Inspection(_workload.Listing, _workload.Overrides);
        Type mutants = Workload.Assembly.GetType("DmaBufIo.Fixtures.HotPathWorkload.Mutants", throwOnError: true)!;
        inspection.Add(MethodKey.Of(Assert.Single(MarkedMethods.Of(mutants), m => m.Name == method)));
        return inspection;
    }
}
