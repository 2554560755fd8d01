using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using DmaBufIo.Cli.Commands;
using DmaBufIo.DmaBufs;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>Goal 1: the path costs less than the copy it avoids, and allocates nothing.</summary>
internal sealed class PathGoal : BenchGoal
{
    private const long Steps = 64_000;
    private const long Million = 1_000_000 / PathRig.Depth;
    private const string How = "whole stack, reads of 4 KiB at depth 32; null device, same thread; 20 pairs in turn with a copy of 4 KiB (the runtime's memory move), both ends in L1";
    private const string AllocationHow = "null device, same thread; GC.GetTotalAllocatedBytes(true) over all threads across a million requests";

    internal override int Number => 1;

    internal override string Title => "the path costs less than the copy it avoids";

    internal override async Task<IReadOnlyList<GoalResult>> RunAsync(GoalContext context)
    {
        var pairs = new List<Paired>();
        var allocated = new Dictionary<string, List<double>>();
        await CommandHost.RunAsync(context.Common with { Iommu = IommuMode.Strict }, (host, _, stopping) =>
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, context.Cancellation);
            using OpenedDevice device = host.Open("null:1T");
            using OpenedDevice large = host.Open("null:1T,mdts=4M");
            DmaBuf buffer = ScatteredExporter.Create(16 << 20, 1);
            var copy = new PageCopy();
            using (var rig = new PathRig(device, buffer))
            using (var largeRig = new PathRig(large, buffer))
            {
                for (int run = -1; run < context.Runs; run++)
                {
                    either.Token.ThrowIfCancellationRequested();
                    context.Say($"path against copy, {(run < 0 ? "warming up" : $"run {run + 1}")}");
                    if (run < 0)
                        WarmUp(rig, copy);
                    Paired paired = Paired.Measure(n => rig.Run(n / PathRig.Depth), copy.Run, Steps);
                    if (run >= 0)
                        pairs.Add(paired);
                    foreach ((string what, Action work) in Kinds(rig, largeRig))
                    {
                        double bytes = Allocated(work);
                        if (run >= 0)
                            (allocated.TryGetValue(what, out List<double>? list) ? list : allocated[what] = []).Add(bytes);
                    }
                }
            }

            buffer.Put();
            return 0;
        });
        return
        [
            Judge("path over copy, upper 95 % bound", pairs.Select(static p => p.Upper), "ratio", GoalBound.AtMost, 0.75, How),
            Report("the path", pairs.Select(static p => p.First), "ns per request", How),
            Report("the copy", pairs.Select(static p => p.Second), "ns", How),
            .. allocated.Select(a => Judge($"allocated: {a.Key}", a.Value, "bytes per million", GoalBound.Exactly, 0, AllocationHow)),
        ];
    }

    private static (string What, Action Work)[] Kinds(PathRig rig, PathRig large) =>
    [
        ("plain", () => rig.Run(Million)),
        ("split into 8 bios", () => rig.Run(Million, block: 1 << 20)),
        ("chained PRP lists", () => large.Run(Million, block: 4 << 20)),
        ("awaited", () => rig.RunAwaited(Million)),
    ];

    // Code is slow until it is compiled with its profile, and that happens on a thread of its own.
    private static void WarmUp(PathRig rig, PageCopy copy)
    {
        for (int i = 0; i < 60; i++)
        {
            rig.Run(2000);
            copy.Run(Steps);
            Thread.Sleep(10);
        }
    }

    private static double Allocated(Action work)
    {
        long before = GC.GetTotalAllocatedBytes(true);
        work();
        return GC.GetTotalAllocatedBytes(true) - before;
    }

    /// <summary>One page copied to another, again and again: the runtime's memory move, which NativeMemory.Copy is as well.</summary>
    private sealed class PageCopy
    {
        private const int Page = 4096;
        private readonly byte[] _memory = GC.AllocateArray<byte>(3 * Page, pinned: true);
        private readonly int _start;

        internal PageCopy()
        {
            long address = Marshal.UnsafeAddrOfPinnedArrayElement(_memory, 0);
            _start = (int)(-address & (Page - 1));
            _memory.AsSpan(_start, Page).Fill(1);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        internal void Run(long times)
        {
            Span<byte> from = _memory.AsSpan(_start, Page);
            Span<byte> to = _memory.AsSpan(_start + Page, Page);
            for (long i = 0; i < times; i++)
                from.CopyTo(to);
        }
    }
}
