using System.Diagnostics;
using DmaBufIo.Diagnostics;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Tests.Harness;

/// <summary>
/// Two cards on a wire behind an IOMMU, and what a test makes with them. Its end is a check: nothing faulted, nothing was stale, nothing is mapped, registered or referenced any more.
/// </summary>
internal sealed class Rig : IDisposable
{
    private readonly List<RdmaMemoryRegion> _regions = [];
    private readonly List<MovingExporter> _buffers = [];
    private readonly List<RdmaQueuePair> _pairs = [];
    private readonly long _driverFaults = Counters.DriverFaults.Value;

    /// <param name="ownThread">False: everything happens when somebody polls, on the thread that does.</param>
    /// <param name="mode">The IOMMU's.</param>
    internal Rig(bool ownThread = false, IommuMode mode = IommuMode.Strict)
    {
        Iommu = new ModelIommu(new ModelIommuOptions { Mode = mode, InvalidationThread = ownThread });
        Left = new RnicDevice(new RnicOptions { Name = "left", OwnThread = ownThread }, Wire, Iommu);
        Right = new RnicDevice(new RnicOptions { Name = "right", OwnThread = ownThread }, Wire, Iommu);
    }

    internal static CancellationToken Token => TestContext.Current.CancellationToken;

    internal static TimeSpan Limit { get; } =
        TimeSpan.FromSeconds(int.TryParse(Environment.GetEnvironmentVariable("DMABUFIO_TEST_LIMIT_SECONDS"), out int seconds) ? seconds : 20);

    internal ModelIommu Iommu { get; }

    internal RnicWire Wire { get; } = new();

    internal RnicDevice Left { get; }

    internal RnicDevice Right { get; }

    /// <summary>How the tokens of regions behave.</summary>
    internal TokenOptions Tokens { get; init; } = TokenOptions.Default;

    internal MovingExporter Buffer(string name, int size)
    {
        MovingExporter exporter = MovingExporter.Create(name, size);
        _buffers.Add(exporter);
        return exporter;
    }

    internal RdmaMemoryRegion Register(RnicDevice device, MovingExporter buffer, RdmaAccess access)
    {
        RdmaMemoryRegion region = device.RegisterMemory(buffer.Buffer, access, Tokens);
        _regions.Add(region);
        return region;
    }

    internal RdmaQueuePair Pair(RnicDevice device, RdmaQueuePairOptions? options = null)
    {
        RdmaQueuePair pair = device.CreateQueuePair(options);
        _pairs.Add(pair);
        return pair;
    }

    internal (RdmaQueuePair Left, RdmaQueuePair Right) Connect(RdmaQueuePairOptions? options = null)
    {
        RdmaQueuePair left = Pair(Left, options);
        RdmaQueuePair right = Pair(Right, options);
        left.Connect(right.Address);
        right.Connect(left.Address);
        return (left, right);
    }

    /// <summary>Polls until there is a completion.</summary>
    internal static RdmaCompletion Next(RdmaCompletionQueue queue)
    {
        var completions = new RdmaCompletion[1];
        var watch = Stopwatch.StartNew();
        while (queue.Poll(completions) == 0)
        {
            Assert.True(watch.Elapsed < Limit, $"No completion came within {Limit}.{Environment.NewLine}{string.Join(Environment.NewLine, DmaBufIoDiagnostics.Snapshot().Waits)}");
            if (watch.ElapsedMilliseconds > 5)
                Thread.Sleep(1);
        }

        return completions[0];
    }

    internal static RdmaCompletion[] Next(RdmaCompletionQueue queue, int count) => [.. Enumerable.Range(0, count).Select(_ => Next(queue))];

    /// <summary>Waits until the workers that made maps are through with them: one of them may have come too late to be needed.</summary>
    internal static void AwaitWorkers(params RdmaMemoryRegion[] regions) => Assert.True(
        SpinWait.SpinUntil(() => DmaBufIoDiagnostics.Snapshot().Tokens.Where(t => Array.Exists(regions, r => r.Token.Name == t.Token)).Sum(static t => t.Users) == 0, Limit), "a map is used for ever");

    /// <summary>Nothing comes, however often somebody looks.</summary>
    internal static void AssertNothing(RdmaCompletionQueue queue)
    {
        var completions = new RdmaCompletion[1];
        for (int i = 0; i < 20; i++)
            Assert.Equal(0, queue.Poll(completions));
    }

    /// <summary>Ends everything, in the order of a careful application, and checks.</summary>
    public void Dispose()
    {
        foreach (RdmaQueuePair pair in _pairs)
            pair.Dispose();
        foreach (RdmaMemoryRegion region in _regions)
            region.Deregister(CancellationToken.None);
        Assert.Equal((0, 0), (Left.Keys.Count, Right.Keys.Count));
        Assert.Equal((0, 0), (Left.Regions, Right.Regions));
        Assert.Equal(0, Iommu.LiveMappings);
        Left.Dispose();
        Right.Dispose();
        Assert.True(Iommu.Faults == 0 && Iommu.StaleAccesses == 0 && Iommu.LeakedMappings == 0, string.Join(Environment.NewLine, Iommu.Reports));
        foreach (MovingExporter buffer in _buffers)
        {
            Assert.Equal((1, 0), (buffer.Buffer.References, buffer.OldPlaces));
            buffer.Buffer.Put();
        }

        Assert.Equal(_driverFaults, Counters.DriverFaults.Value);
        Iommu.Dispose();
    }
}
