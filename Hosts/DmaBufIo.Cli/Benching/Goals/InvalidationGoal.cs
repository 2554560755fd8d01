using System.Diagnostics;
using DmaBufIo.Cli.Commands;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>Goal 6: how long an invalidation takes at depth 128, and what the map after it costs.</summary>
/// <remarks>
/// On a null device every request completes when its doorbell is rung. With an owner that is idle, so that the invalidating thread reaps in
/// its place, the oldest request's own completion takes no time, and all the time from the call to its return counts. Against an owner that
/// goes on submitting on another thread, a request's own completion is the time that the owner takes from submitting to reaping it,
/// measured undisturbed in the same run.
/// </remarks>
internal sealed class InvalidationGoal : BenchGoal
{
    private const int Depth = 128;
    private const int Block = 4096;
    private const int Calls = 500;
    private const double Limit = 20;
    private const long BufferSize = 16 << 20;
    private static readonly int[] s_extents = [1, 16, 256, 1024];
    private static readonly double s_microseconds = 1e6 / Stopwatch.Frequency;

    internal override int Number => 6;

    internal override string Title => "an invalidation returns soon after the oldest request";

    internal override async Task<IReadOnlyList<GoalResult>> RunAsync(GoalContext context)
    {
        var idle = new List<LatencyHistogram>();
        var busy = new List<LatencyHistogram>();
        var mapping = new List<LatencyHistogram>();
        var own = new List<double>();
        var remaps = s_extents.ToDictionary(static e => e, static _ => new List<double>());
        await CommandHost.RunAsync(context.Common with { Iommu = IommuMode.Strict }, (host, _, stopping) =>
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, context.Cancellation);
            using OpenedDevice device = host.Open("null:1G");

            // The first of each warm the code up, which is compiled anew on a thread of its own after some calls.
            for (int run = -4; run < context.Runs; run++)
            {
                if (run <= 0)
                    Thread.Sleep(150);
                either.Token.ThrowIfCancellationRequested();
                context.Say($"invalidations at depth {Depth}, {(run < 0 ? "warming up" : $"run {run + 1}")}");
                LatencyHistogram whileIdle = With(device, 1, Idle);
                double undisturbed = With(device, 1, Undisturbed);
                LatencyHistogram whileBusy = With(device, 1, static (ring, file, buffer, token) => Busy(ring, file, buffer, token, batches: 64));
                LatencyHistogram whileMapping = With(device, 1, static (ring, file, buffer, token) => Busy(ring, file, buffer, token, batches: 0));
                foreach (int extents in s_extents)
                {
                    double remap = With(device, extents, Remap);
                    if (run >= 0)
                        remaps[extents].Add(remap);
                }

                if (run < 0)
                    continue;
                idle.Add(whileIdle);
                busy.Add(whileBusy);
                mapping.Add(whileMapping);
                own.Add(undisturbed);
            }

            return 0;
        });
        GoalResult latency = Report(
            "a request's own completion, owner submitting",
            own.Select(static v => v * s_microseconds),
            "us",
            "null device; 128 requests from their submission to their reaping, undisturbed; median of 500");
        return
        [
            .. Times("owner idle", idle, own: 0),
            latency,
            .. Times("owner submitting", busy, latency.Measured),
            Report(
                "owner just making its map: p50",
                mapping.Select(static h => h.Percentile(5000) * s_microseconds),
                "us",
                "null device, strict IOMMU; the invalidation comes as soon as a new map is seen, whose maker may be waking others or sleep"),
            .. Costs(remaps),
        ];
    }

    private IEnumerable<GoalResult> Times(string which, List<LatencyHistogram> runs, double own)
    {
        const string How = "null device, strict IOMMU, up to 128 requests in flight; from call to return of the invalidation, "
            + "less a request's own completion; 500 calls per run";
        foreach ((string name, int tenThousandths) in new[] { ("p50", 5000), ("p90", 9000), ("p99", 9900) })
        {
            IEnumerable<double> values = runs.Select(h => (h.Percentile(tenThousandths) * s_microseconds) - own);
            yield return Judge($"{which}: {name}", values, "us", GoalBound.AtMost, Limit, How);
        }

        yield return Report($"{which}: max", runs.Select(h => (h.Max * s_microseconds) - own), "us", How);
    }

    private IEnumerable<GoalResult> Costs(Dictionary<int, List<double>> remaps)
    {
        const string How = "null device, strict IOMMU, 16 MiB; submission of one request that makes the map, less one that finds it; "
            + "medians of 100";
        foreach ((int extents, List<double> values) in remaps)
            yield return Report($"re-map with {extents} extents", values.Select(static v => v * s_microseconds), "us", How);
        (int few, int many) = (s_extents[0], s_extents[^1]);
        IEnumerable<double> slopes = remaps[many].Zip(remaps[few], (a, b) => (a - b) * s_microseconds * 1000 / (many - few));
        yield return Report("re-map, per extent", slopes, "ns", How, "the slope between the least and the most extents");
    }

    private static T With<T>(OpenedDevice device, int extents, Func<Ring, BlockDeviceFile, DmaBuf, DmaBufToken, T> measure)
    {
        DmaBuf buffer = ScatteredExporter.Create(BufferSize, extents);
        var file = new BlockDeviceFile(device.BlockDevice, OpenFlags.Direct | OpenFlags.ReadOnly);
        try
        {
            using var ring = new Ring(new RingOptions { Name = "goal 6", Entries = Depth, BufferSlots = 1 });
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer, File = file, Direction = Dma.DmaDirection.FromDevice });
            DmaBufToken token = ring.TokenAt(0)!;
            T result = measure(ring, file, buffer, token);
            ring.Dispose();
            token.WaitReleased();
            return result;
        }
        finally
        {
            file.Put();
            buffer.Put();
        }
    }

    /// <summary>The requests are submitted and nobody reaps them: the invalidation does.</summary>
    private static LatencyHistogram Idle(Ring ring, BlockDeviceFile file, DmaBuf buffer, DmaBufToken token)
    {
        var times = new LatencyHistogram();
        var completions = new RingCompletion[Depth];
        for (int call = 0; call < Calls; call++)
        {
            Submit(ring, file, Depth);
            (long time, InvalidationReport report) = Invalidate(buffer);
            if (report.Users != Depth)
                throw new DmaBufIoException(
                    Errno.EIO, "bench", "goal 6", $"an invalidation found {report.Users} requests in flight instead of {Depth}",
                    "Report this as a defect");
            times.Record(time);
            Reap(ring, completions, Depth);
            WaitUnmapped(token);
        }

        return times;
    }

    /// <summary>From the submission of a batch to its reaping when nothing is invalidated, in ticks: the median of many.</summary>
    private static double Undisturbed(Ring ring, BlockDeviceFile file, DmaBuf buffer, DmaBufToken token)
    {
        var times = new LatencyHistogram();
        var completions = new RingCompletion[Depth];
        for (int i = 0; i < Calls; i++)
        {
            long begun = Stopwatch.GetTimestamp();
            Submit(ring, file, Depth);
            Reap(ring, completions, Depth);
            times.Record(Stopwatch.GetTimestamp() - begun);
        }

        return times.Percentile(5000);
    }

    /// <summary>The owner submits and reaps on another thread all the time, so many batches with each map at least.</summary>
    private static LatencyHistogram Busy(Ring ring, BlockDeviceFile file, DmaBuf buffer, DmaBufToken token, int batches)
    {
        var times = new LatencyHistogram();
        bool stop = false;
        long ended = 0;
        DmaBufIoException? failure = null;
        var owner = new Thread(() =>
        {
            try
            {
                var completions = new RingCompletion[Depth];
                while (!Volatile.Read(ref stop))
                {
                    Submit(ring, file, Depth);
                    Reap(ring, completions, Depth);
                    Volatile.Write(ref ended, ended + 1);
                }
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                failure = BenchJob.AsFailure(e);
            }
        })
        {
            Name = "goal 6 owner",
            IsBackground = true,
        };
        owner.Start();
        for (int call = 0; call < Calls && Volatile.Read(ref failure) is null; call++)
        {
            // Not before the owner has made a new map: an invalidation that finds none has nothing to do.
            while (token.LiveGeneration is null && Volatile.Read(ref failure) is null)
                Thread.Yield();

            // The last map's unmapping needs a processor, too, and there may be no third one.
            if (batches != 0)
                WaitUnmapped(token, left: 1);
            long before = Volatile.Read(ref ended);
            while (Volatile.Read(ref ended) - before < batches && Volatile.Read(ref failure) is null)
                Thread.SpinWait(8);
            times.Record(Invalidate(buffer).Time);
        }

        Volatile.Write(ref stop, true);
        owner.Join();
        return failure is null ? times : throw failure;
    }

    /// <summary>What the request that makes the map pays for it, in ticks: the median of many.</summary>
    private static double Remap(Ring ring, BlockDeviceFile file, DmaBuf buffer, DmaBufToken token)
    {
        var making = new LatencyHistogram();
        var finding = new LatencyHistogram();
        var completions = new RingCompletion[1];
        for (int i = 0; i < 100; i++)
        {
            foreach (LatencyHistogram times in new[] { making, finding })
            {
                long begun = Stopwatch.GetTimestamp();
                Submit(ring, file, 1);
                times.Record(Stopwatch.GetTimestamp() - begun);
                Reap(ring, completions, 1);
            }

            Invalidate(buffer);
            WaitUnmapped(token);
        }

        return making.Percentile(5000) - finding.Percentile(5000);
    }

    private static (long Time, InvalidationReport Report) Invalidate(DmaBuf buffer)
    {
        using ReservationGuard guard = buffer.Reservation.Lock();
        long begun = Stopwatch.GetTimestamp();
        InvalidationReport report = buffer.InvalidateMappings(guard.Held);
        return (Stopwatch.GetTimestamp() - begun, report);
    }

    private static void Submit(Ring ring, BlockDeviceFile file, int count)
    {
        for (int i = 0; i < count; i++)
            ring.TryReadFixed(file, 0, i * Block, Block, i * Block, (ulong)i);
        ring.Submit();
    }

    private static void Reap(Ring ring, RingCompletion[] completions, int count)
    {
        for (int reaped = 0; reaped < count;)
        {
            int some = ring.Reap(completions, 1);
            for (int i = 0; i < some; i++)
            {
                if (completions[i].Status != Errno.Ok)
                    throw new DmaBufIoException(
                        completions[i].Status, "bench", "goal 6", "a request failed", "See what the device itself says");
            }

            reaped += some;
        }
    }

    // A worker unmaps. Until it has, it may hold the lock that the next map needs, and that is not what is measured here.
    private static void WaitUnmapped(DmaBufToken token, int left = 0)
    {
        while (token.Maps > left)
            Thread.Yield();
    }
}
