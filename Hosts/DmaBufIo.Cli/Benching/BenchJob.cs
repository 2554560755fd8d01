using System.Diagnostics;
using DmaBufIo.Block;
using DmaBufIo.Cli.Commands;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Benching;

/// <summary>One run: opens device and buffer, lets the lanes warm up and then measures them.</summary>
internal sealed class BenchJob : IDisposable
{
    private const string NullWord = "null";
    private readonly BenchSettings _settings;
    private readonly ModelIommu _iommu;
    private readonly Stack<IDisposable> _owned = [];
    private readonly List<BenchLane> _lanes = [];
    private readonly OpenedDevice _device;
    private readonly BenchBuffer _buffer;
    private readonly BenchPhases _phases;
    private readonly bool _nothingMoves;
    private readonly Lock _noMover = new();

    /// <summary>Opens everything.</summary>
    /// <exception cref="DmaBufIoException">Wrong input, or what the plugins say. Nothing stays open.</exception>
    internal BenchJob(BenchSettings settings, DmaBufIoHost host, ModelIommu iommu)
    {
        _settings = settings;
        _iommu = iommu;
        try
        {
            DeviceExpression expression = Expressions.Parse(host, settings.Device);
            _nothingMoves = Leaves(expression).All(static e => e.Word == NullWord);
            if (settings.Pattern.Writes && !settings.Overwrite && !_nothingMoves)
                throw BenchSettings.Refused(
                    "--rw", $"'{settings.Pattern.Text}' would overwrite what '{settings.Device}' holds",
                    "Give --overwrite when its contents may be lost, or measure reads");
            _phases = Own(new BenchPhases(settings.Threads, isOver: settings.Warmup == TimeSpan.Zero));
            _buffer = Own(BenchBuffer.Create(host, settings.Exporter, settings.Buffer));
            if (settings.InvalidateRate > 0 && _buffer.Exported?.Mover is null)
                throw BenchSettings.Refused(
                    "--invalidate-rate", $"exporter '{settings.Exporter}' never moves its buffers",
                    "Use an exporter that moves, for example --via moving");
            _device = Own(host.Open(expression, readOnly: !settings.Pattern.Writes));
            BlockDevice device = _device.BlockDevice;
            Check(device);
            var file = new BlockDeviceFile(device, settings.Pattern.Writes ? OpenFlags.Direct : OpenFlags.Direct | OpenFlags.ReadOnly);
            Own(new FileUse(file));
            for (int i = 0; i < settings.Threads; i++)
                _lanes.Add(Own(new BenchLane(settings, i, file, _buffer, _phases)));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Requests ended so far; a moment old.</summary>
    internal long Completed => _lanes.Sum(static l => l.Completed);

    /// <summary>Anything that ended a thread, as an error of this command.</summary>
    internal static DmaBufIoException AsFailure(Exception e) => e as DmaBufIoException
        ?? new DmaBufIoException(
            Errno.EIO, "bench", "a thread of the benchmark", $"{e.GetType().Name}: {e.Message.TrimEnd('.')}",
            "Check the plugins that were used", inner: e);

    /// <summary>Warms up and measures. A cancellation ends it early; what was measured until then is reported.</summary>
    /// <exception cref="DmaBufIoException">A request or a move failed.</exception>
    internal BenchReport Run(LiveLine live, CancellationToken cancellationToken)
    {
        var threads = new List<Thread>();
        foreach (BenchLane lane in _lanes)
            threads.Add(new Thread(lane.Run) { Name = $"bench {threads.Count}", IsBackground = true });
        using RateMover? mover = _settings.InvalidateRate > 0
            ? new RateMover(_buffer.Exported!.Mover!, _buffer.Exported.Buffer, _settings.InvalidateRate, _phases.Stop)
            : null;
        BenchSnapshot before = default;
        BenchSnapshot after = default;
        foreach (Thread thread in threads)
            thread.Start();
        bool interrupted = !Stretch(live, "warming up", _settings.Warmup, cancellationToken);
        Count(mover, () =>
        {
            foreach (BenchLane lane in _lanes)
                lane.Reset();
            before = Snapshot(mover);
            return Failure(mover) is not null || cancellationToken.IsCancellationRequested;
        });
        Stretch(live, "measuring", _settings.Runtime, cancellationToken);
        Count(mover, () =>
        {
            after = Snapshot(mover);
            return true;
        });
        foreach (Thread thread in threads)
            thread.Join();
        live.End();
        mover?.Dispose();
        if (Failure(mover) is { } failure)
            throw failure;
        return Report(before, after, interrupted || cancellationToken.IsCancellationRequested);
    }

    /// <summary>Closes everything in the reverse order.</summary>
    public void Dispose()
    {
        while (_owned.TryPop(out IDisposable? owned))
            owned.Dispose();
    }

    private static IEnumerable<DeviceExpression> Leaves(DeviceExpression expression) =>
        expression.Members.Count == 0 ? [expression] : expression.Members.SelectMany(Leaves);

    private T Own<T>(T thing)
        where T : IDisposable
    {
        _owned.Push(thing);
        return thing;
    }

    private void Check(BlockDevice device)
    {
        if (_settings.Block % device.Limits.LogicalBlockSize != 0)
            throw BenchSettings.Refused(
                "--block", $"{_settings.Block} bytes are no multiple of the device's logical block ({device.Limits.LogicalBlockSize})",
                $"Give a multiple of {device.Limits.LogicalBlockSize}");
        if (_settings.Block > int.MaxValue || device.Capacity < _settings.Block)
            throw BenchSettings.Refused(
                "--block", $"a request of {_settings.Block} bytes does not fit the device of {device.Capacity}",
                "Give a smaller block or a larger device");
        if (_settings.Pattern.Writes && device.IsReadOnly)
            throw new DmaBufIoException(
                Errno.EROFS, "bench", _settings.Device, "the device is write-protected", "Measure reads, or leave its option ro out");
    }

    private DmaBufIoException? Failure(RateMover? mover) => _lanes.Find(static l => l.Failure is not null)?.Failure ?? mover?.Failure;

    /// <summary>Waits while the lanes work.</summary>
    /// <returns>False when the time has not passed: finished, failed or cancelled.</returns>
    private bool Stretch(LiveLine live, string what, TimeSpan time, CancellationToken cancellationToken)
    {
        if (time == TimeSpan.Zero)
            return true;
        long started = Stopwatch.GetTimestamp();
        live.Begin(what, time, Completed);
        while (true)
        {
            TimeSpan left = time - Stopwatch.GetElapsedTime(started);
            if (left <= TimeSpan.Zero)
                return true;
            TimeSpan slice = live.IsShown && left > LiveLine.Interval ? LiveLine.Interval : left;
            if (!_phases.Wait(slice, cancellationToken))
                return false;
            live.Show(Completed, _settings.Block);
        }
    }

    // The lanes drain and rest, no move is under way: nothing changes while it is counted.
    private void Count(RateMover? mover, Func<bool> count)
    {
        _phases.End();
        bool idle;
        lock (mover?.Moving ?? _noMover)
            idle = count();
        _phases.Resume(idle);
    }

    private BenchSnapshot Snapshot(RateMover? mover)
    {
        IommuCounters iommu = _iommu.Counters;
        long process = GC.GetTotalAllocatedBytes(precise: true);
        return new BenchSnapshot(
            Stopwatch.GetTimestamp(),
            Environment.CpuUsage.TotalTime,
            process - GC.GetAllocatedBytesForCurrentThread(),
            mover?.Counts ?? default,
            iommu);
    }

    private BenchReport Report(in BenchSnapshot before, in BenchSnapshot after, bool interrupted)
    {
        var latencies = new LatencyHistogram();
        foreach (BenchLane lane in _lanes)
            latencies.Add(lane.Latencies);
        long requests = _lanes.Sum(static l => l.Requests);
        double seconds = Math.Max(1e-9, Stopwatch.GetElapsedTime(before.Timestamp, after.Timestamp).TotalSeconds);
        long allocated = after.Allocated - before.Allocated;
        double nanoseconds = 1e9 / Stopwatch.Frequency;
        long first = _lanes.Select(static l => l.FirstCompletion).Where(static t => t != 0).DefaultIfEmpty().Min();
        IReadOnlyList<string> problems = _device.Root.Problems;
        return new BenchReport
        {
            Ok = requests > 0 && problems.Count == 0 && _iommu is { Faults: 0, StaleAccesses: 0 },
            Interrupted = interrupted,
            Label = _nothingMoves ? "null device, same thread" : null,
            Iops = requests / seconds,
            BytesPerSecond = requests * _settings.Block / seconds,
            LatencyNs = LatencyReport.From(latencies, nanoseconds),
            CpuUse = (after.Cpu - before.Cpu).TotalSeconds / seconds,
            AllocatedBytes = allocated,
            AllocatedBytesPerRequest = requests == 0 ? 0 : (double)allocated / requests,
            Requests = requests,
            Bytes = requests * _settings.Block,
            Seconds = seconds,
            Maps = _lanes.Sum(static l => l.Maps),
            Invalidations = after.Moves.Moves - before.Moves.Moves,
            InvalidationsUnderLoad = after.Moves.UnderLoad - before.Moves.UnderLoad,
            Reissued = _lanes.Sum(static l => l.Reissued),
            Parts = _lanes.Sum(static l => l.Parts),
            IommuFaults = _iommu.Faults,
            StaleAccesses = _iommu.StaleAccesses,
            IommuPerRequest = IommuPerRequest.Between(before.Iommu, after.Iommu, requests),
            FirstCompletionNs = (long)(first * nanoseconds),
            Settings = BenchSettingsReport.From(_settings),
            Problems = problems,
        };
    }

    private sealed class FileUse(BlockDeviceFile file) : IDisposable
    {
        public void Dispose() => file.Put();
    }
}

/// <summary>
/// What is read while everything rests. Allocations are those of all threads but the reading one, which draws the live line.
/// </summary>
internal readonly record struct BenchSnapshot(
    long Timestamp, TimeSpan Cpu, long Allocated, (long Moves, long UnderLoad) Moves, IommuCounters Iommu);
