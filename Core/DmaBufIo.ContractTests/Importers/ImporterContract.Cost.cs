using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>What a request costs: allocations and locks (A1), and that its place in the buffer does not matter (N4). Counted, not timed.</content>
public abstract partial class ImporterContract
{
    /// <summary>After warm-up the ring's thread allocates nothing and the driver takes no lock on it. The figures are written to the test's output.</summary>
    [Fact]
    public virtual void A1_a_request_allocates_nothing_and_takes_no_lock() => OnStage(
        new StageSetup(),
        stage =>
        {
            SkipUnless(ImporterCapabilities.Quiet | ImporterCapabilities.KeepsData);
            int length = stage.Blocks(4096);
            var completions = new RingCompletion[32];
            int requests = RequestsOf(stage, length, completions);
            Check(stage, Go(stage.Ring, stage.Target.File, length, requests, completions));
            Check(stage, Go(stage.Ring, stage.Target.File, length, requests, completions));

            // The runtime itself allocates now and then, when it compiles a method anew. What a request costs, it costs in every window.
            var least = new Cost(long.MaxValue, long.MaxValue, long.MaxValue);
            PluginMeter.Counts counts = PluginMeter.Mine;
            for (int window = 0; window < 6 && least is not { Bytes: 0, Locks: 0 }; window++)
            {
                long bytes = GC.GetAllocatedBytesForCurrentThread();
                (long locks, long interlocks) = (counts.Locks, counts.Interlocks);
                Errno status = Go(stage.Ring, stage.Target.File, length, requests, completions);
                bytes = GC.GetAllocatedBytesForCurrentThread() - bytes;
                least = new Cost(Math.Min(least.Bytes, bytes), Math.Min(least.Locks, counts.Locks - locks), Math.Min(least.Interlocks, counts.Interlocks - interlocks));
                Check(stage, status);
            }

            bool isCounted = stage.World.Plugin is not null;
            string figures = $"{(double)least.Bytes / requests:0.###} bytes allocated, {(isCounted ? $"{(double)least.Locks / requests:0.###} locks taken and {(double)least.Interlocks / requests:0.###} interlocked instructions in the plugin's code" : "locks not counted, for the plugin is built in")}";
            TestContext.Current.TestOutputHelper?.WriteLine($"per request, {requests} requests of {length} bytes on {stage.Target.File.Name}: {figures}");
            stage.World.Check(least.Bytes == 0, "A1", $"per request on the ring's thread: {figures}.");
            stage.World.Check(least.Locks == 0, "A1", $"per request on the ring's thread: {figures}.");
        },
        code: PluginCode.Metered);

    /// <summary>A request at the end of a buffer of thousands of pieces costs as much as one at its start: counted in steps of the driver's code.</summary>
    [Fact]
    public virtual void N4_a_request_costs_the_same_wherever_it_lies_in_the_buffer()
    {
        // By direction: what a request costs where there is nothing to search.
        var alone = new Dictionary<bool, long>();
        OnStage(
            new StageSetup(),
            stage =>
            {
                SkipUnless(stage.World.Plugin is not null, "The plugin is built in: steps are counted in the code of plugins that are loaded.");
                stage.CheckRead(0, 0, Bytes(1, stage.Blocks(4096)));
                foreach (bool isWrite in s_both)
                    alone[isWrite] = LeastSteps(stage, isWrite, 0, stage.Blocks(4096), enough: long.MaxValue);
            },
            code: PluginCode.Metered);
        OnStage(
            new StageSetup { Pieces = [.. Enumerable.Repeat(4096L, 2048)] },
            stage =>
            {
                int length = stage.Blocks(4096);
                long size = stage.Buffer.Buffer.Size;
                stage.CheckRead(0, 0, Bytes(1, length));
                foreach (bool isWrite in s_both)
                {
                    // A search by halves takes a step more per doubling; a walk takes one per piece, each time. A thread that polls, or looks around before it sleeps, adds some, now more and now less.
                    long most = alone[isWrite] + (stage.Setup.Pieces.Length / 2);
                    long start = LeastSteps(stage, isWrite, 0, length, enough: most);
                    long end = LeastSteps(stage, isWrite, size - length, length, enough: most);
                    string steps = $"{start} steps of the driver's code at the start of a buffer of {stage.Setup.Pieces.Length} pieces, {end} at its end, and {alone[isWrite]} in a buffer of one piece";
                    TestContext.Current.TestOutputHelper?.WriteLine($"a {(isWrite ? "write" : "read")} on {stage.Target.File.Name}: {steps}");

                    stage.World.Check(Math.Max(start, end) <= most, "N4", $"a {(isWrite ? "write" : "read")} of {length} bytes took {steps}.");
                }
            },
            code: PluginCode.Metered);
    }

    /// <summary>How many requests are counted at once: thousands, or some where the device is slow. It decides how much is found, never what passes.</summary>
    private static int RequestsOf(ImporterStage stage, int length, RingCompletion[] completions)
    {
        // The first are compiled.
        Check(stage, Go(stage.Ring, stage.Target.File, length, 64, completions));
        long started = Stopwatch.GetTimestamp();
        Check(stage, Go(stage.Ring, stage.Target.File, length, 64, completions));
        return Stopwatch.GetElapsedTime(started) < TimeSpan.FromMilliseconds(50) ? 4096 : 128;
    }

    /// <summary>The fewest steps that one request took: polling takes more or fewer, by chance, and nothing else does. Tried more often where they are more than enough.</summary>
    private static long LeastSteps(ImporterStage stage, bool isWrite, long offset, int length, long enough)
    {
        long least = long.MaxValue;
        for (int i = 0; i < 64 || (least > enough && i < 1024); i++)
        {
            if (isWrite)
                stage.Expect(1, length);
            else
                stage.Give(new byte[length], length);
            long before = PluginMeter.StepsOfAll;
            if (isWrite)
                stage.Write(0, offset, length);
            else
                stage.Read(0, offset, length);
            stage.Ended(stage.Run("N4")[0], length, "N4", $"a request at {offset} of the buffer");
            least = Math.Min(least, PluginMeter.StepsOfAll - before);
            if (isWrite)
                stage.Take(1, length);
        }

        return least;
    }

    private static void Check(ImporterStage stage, Errno status) => stage.World.Check(status == Errno.Ok, "N8", $"a request of many ended with {status}.");

    private static Errno Go(Ring ring, IoFile file, int length, int count, RingCompletion[] completions)
    {
        Errno status = Errno.Ok;
        int started = 0;
        int ended = 0;
        while (ended < count)
        {
            while (started < count && started - ended < completions.Length)
            {
                long at = started % completions.Length * (long)length;
                _ = (started & 1) == 0 ? ring.TryReadFixed(file, 0, at, length, at, 1) : ring.TryWriteFixed(file, 0, at, length, at, 1);
                started++;
            }

            ring.Submit();
            int reaped = ring.Reap(completions, 1);
            for (int i = 0; i < reaped; i++)
                status = completions[i].Status == Errno.Ok ? status : completions[i].Status;
            ended += reaped;
        }

        return status;
    }

    private readonly record struct Cost(long Bytes, long Locks, long Interlocks);
}
