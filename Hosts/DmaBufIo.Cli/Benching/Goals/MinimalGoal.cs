using DmaBufIo.Block;
using DmaBufIo.Cli.Baseline;
using DmaBufIo.Cli.Commands;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Io;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Benching.Goals;

/// <summary>Goal 2: the NVMe layer and the whole stack against minimal C that does the same work.</summary>
internal sealed class MinimalGoal : BenchGoal
{
    private const long Steps = 64_000;
    private const string How = "null device, same thread, depth 32; 20 pairs in turn, upper 95 % bound; C compiled with -O2 in the same run";

    internal override int Number => 2;

    internal override string Title => "the layers against minimal C";

    internal override async Task<IReadOnlyList<GoalResult>> RunAsync(GoalContext context)
    {
        using CBaseline? c = CBaseline.TryBuild(out string reason);
        if (c is null)
        {
            context.Say($"goal 2 is left out: {reason}");
            return [];
        }

        var layers = new List<Paired>();
        var stacks = new List<Paired>();
        await CommandHost.RunAsync(context.Common with { Iommu = IommuMode.Strict }, (host, _, stopping) =>
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, context.Cancellation);
            using OpenedDevice device = host.Open("null:1T");
            DmaBuf buffer = ScatteredExporter.Create(16 << 20, 1);
            using (var rig = new PathRig(device, buffer))
            using (var lane = new QueueLane(device.BlockDevice, buffer))
            {
                for (int run = -1; run < context.Runs; run++)
                {
                    either.Token.ThrowIfCancellationRequested();
                    context.Say($"layers against C, {(run < 0 ? "warming up" : $"run {run + 1}")}");
                    for (int i = 0; run < 0 && i < 60; i++)
                    {
                        rig.Run(2000);
                        lane.Run(2000);
                        Thread.Sleep(10);
                    }

                    var layer = Paired.Measure(n => lane.Run(n / PathRig.Depth), n => c.NvmeLayer(n, PathRig.Depth), Steps);
                    var stack = Paired.Measure(n => rig.Run(n / PathRig.Depth), n => c.WholeStack(n, PathRig.Depth), Steps);
                    if (run < 0)
                        continue;
                    layers.Add(layer);
                    stacks.Add(stack);
                }
            }

            buffer.Put();
            return 0;
        });
        return
        [
            Judge("NVMe layer over C", layers.Select(static p => p.Upper), "ratio", GoalBound.AtMost, 1.1, How),
            Report("NVMe layer", layers.Select(static p => p.First), "ns per request", How),
            Report("NVMe layer in C", layers.Select(static p => p.Second), "ns per request", How, c.Compiler),
            Judge("whole stack over C", stacks.Select(static p => p.Upper), "ratio", GoalBound.AtMost, 1.3, How, "the C takes requests one by one"),
            Report("whole stack", stacks.Select(static p => p.First), "ns per request", How),
            Report("whole stack in C", stacks.Select(static p => p.Second), "ns per request", How, c.Compiler),
        ];
    }

    /// <summary>The driver's queue alone: a batch of bios that are made once, submitted, completed and told again and again.</summary>
    private sealed class QueueLane : IBioOwner, IDisposable
    {
        private readonly BlockDeviceFile _file;
        private readonly IoContext _context = new("goal 2");
        private readonly BioPool _bios = new(PathRig.Depth);
        private readonly BlockQueue _queue;
        private readonly DmaBufToken _token;
        private readonly DmaMap _map;
        private readonly BioHandle[] _batch = new BioHandle[PathRig.Depth];
        private int _ended;

        internal QueueLane(BlockDevice device, DmaBuf buffer)
        {
            _file = new BlockDeviceFile(device);
            _token = _file.OpenToken(buffer, DmaDirection.FromDevice);
            _queue = device.OpenQueue(_context, _bios, PathRig.Depth);
            Errno status = _token.GetMap(_context, out DmaMap? map);
            if (status != Errno.Ok)
                throw new DmaBufIoException(status, "bench", device.Name, "no map could be made", "See the messages before this one");
            _map = map!;
            _context.Leave(); // a map is handed out inside a batch
            int owner = _bios.AddOwner(this);
            for (int i = 0; i < _batch.Length; i++)
                _bios.TryAllocate(BioOperation.Read, _map, (long)i << 12, 4096, (long)i << 3, out _batch[i], owner, i);
        }

        internal void Run(long batches)
        {
            _context.Enter();
            for (long batch = 0; batch < batches; batch++)
            {
                _ended = 0;
                int taken = _queue.Submit(_batch);
                _queue.Commit();
                while (_ended < taken)
                {
                    _queue.Poll(PathRig.Depth);
                    _bios.Dispatch();
                }
            }

            _context.Leave();
        }

        public void BioEnded(BioHandle bio) => _ended++;

        public void BiosEnded(ReadOnlySpan<BioHandle> bios) => _ended += bios.Length;

        public void Dispose()
        {
            _context.Enter();
            DmaBufToken.Drop(_map, _context);
            _context.Leave();
            _queue.Dispose();
            _token.Release();
            _token.WaitReleased();
            _file.Put();
            _context.Dispose();
            _bios.Dispose();
        }
    }
}
