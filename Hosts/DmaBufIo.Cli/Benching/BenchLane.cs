using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Benching;

/// <summary>One thread of a benchmark with a ring of its own.</summary>
/// <remarks>
/// The loop must add little to what it measures: nothing is allocated, requests are submitted and reaped in batches, and the clock is read
/// twice per batch, before the submission and after the reaping. So a latency is from before the submission of the request's batch to after
/// the reaping of the batch it came with: never less than the request's own, at depth 1 the request's own.
/// </remarks>
internal sealed class BenchLane : IDisposable
{
    private const int Slot = 0;
    private readonly BenchPhases _phases;
    private readonly BlockDeviceFile _file;
    private readonly Ring _ring;
    private readonly DmaBufToken? _token;
    private readonly RingCompletion[] _completions;
    private readonly long[] _started;
    private readonly int[] _free;
    private readonly int _block;
    private readonly int _readPercent;
    private readonly bool _isRandom;
    private readonly long _bufferStart;
    private readonly long _writeAreaStart;
    private readonly long _first;
    private readonly long _blocks;
    private readonly long _share;
    private int _freeCount;
    private long _cursor;
    private long _left;
    private ulong _seed;
    private long _reissuedBefore;
    private long _partsBefore;
    private long _mapsBefore;

    /// <summary>Opens the lane's ring and registers the buffer.</summary>
    /// <param name="settings">The run's.</param>
    /// <param name="index">The lane's number, from 0.</param>
    /// <param name="file">The device.</param>
    /// <param name="buffer">The buffer of all lanes; each uses a part of its own.</param>
    /// <param name="phases">When to work.</param>
    internal BenchLane(BenchSettings settings, int index, BlockDeviceFile file, BenchBuffer buffer, BenchPhases phases)
    {
        _phases = phases;
        _file = file;
        _block = (int)settings.Block;
        _readPercent = settings.Pattern.ReadPercent;
        _isRandom = settings.Pattern.IsRandom;
        int depth = settings.QueueDepth;
        long part = settings.BufferNeeded / settings.Threads;
        _bufferStart = index * part;
        _writeAreaStart = _bufferStart + part - (depth * settings.Block);
        _completions = new RingCompletion[depth];
        _started = new long[depth];
        _free = [.. Enumerable.Range(0, depth).Reverse()];
        _freeCount = depth;
        _seed = 0x9E3779B97F4A7C15UL * (ulong)(index + 1);

        // At random over the whole device; one after the other over a part of its own.
        long all = file.Size / settings.Block;
        long share = _isRandom ? all : Math.Max(1, all / settings.Threads);
        _first = _isRandom ? 0 : Math.Min(index * share, all - 1);
        _blocks = share;
        _share = settings.Requests is { } requests
            ? (requests / settings.Threads) + (index < requests % settings.Threads ? 1 : 0)
            : long.MaxValue;
        _ring = new Ring(new RingOptions
        {
            Name = $"bench {index}",
            Entries = depth,
            BufferSlots = 1,
            Bios = Math.Max(1024, depth),
            Tokens = TokenOptions.Default with { Design = settings.Invalidation },
            Completion = settings.Completion,
        });
        try
        {
            _ring.RegisterBuffer(Slot, buffer.Register(file, settings.Pattern.Direction, settings.Mapping));
            _token = _ring.TokenAt(Slot);
        }
        catch
        {
            _ring.Dispose();
            throw;
        }
    }

    /// <summary>Latencies of the measurement in ticks of <see cref="Stopwatch"/>.</summary>
    internal LatencyHistogram Latencies { get; } = new();

    /// <summary>Requests that ended well in the measurement.</summary>
    internal long Requests { get; private set; }

    /// <summary>When the first one was reaped, in ticks of <see cref="Stopwatch"/>; 0 when there was none.</summary>
    internal long FirstCompletion { get; private set; }

    /// <summary>Requests ended so far, also outside the measurement; a moment old when read by others.</summary>
    internal long Completed => _ring.Counters.Completed;

    /// <summary>Requests issued again in the measurement.</summary>
    internal long Reissued => _ring.Counters.Reissued - _reissuedBefore;

    internal long Parts => _ring.Counters.Parts - _partsBefore;

    /// <summary>Maps made for the registration in the measurement.</summary>
    internal long Maps => (_token?.MapsMade ?? 0) - _mapsBefore;

    /// <summary>What ended the lane, or null.</summary>
    internal DmaBufIoException? Failure { get; private set; }

    /// <summary>The thread's work: a warm-up and a measurement, with a rest after each.</summary>
    internal void Run()
    {
        Work(long.MaxValue);
        _phases.Rest();
        Work(_share);
        _phases.Rest();
    }

    /// <summary>Begins the measurement: what was recorded is forgotten. The lane rests.</summary>
    internal void Reset()
    {
        Latencies.Clear();
        Requests = 0;
        FirstCompletion = 0;
        _reissuedBefore = _ring.Counters.Reissued;
        _partsBefore = _ring.Counters.Parts;
        _mapsBefore = _token?.MapsMade ?? 0;
    }

    /// <summary>Removes the registration, drains, and waits until nothing of it is left.</summary>
    public void Dispose()
    {
        RemovedBuffer removed = _ring.RemoveBuffer(Slot);
        _ring.Dispose();
        removed.WaitReleased();
    }

    private void Work(long requests)
    {
        try
        {
            _left = requests;
            while (!_phases.IsOver && _left > 0 && Failure is null)
                Turn();
            while (_freeCount < _free.Length)
                Reap();
            if (requests != long.MaxValue && _left == 0)
                _phases.Finished();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Failure ??= BenchJob.AsFailure(e);
        }

        if (Failure is not null)
            _phases.Stop();
    }

    // A method of its own, called once per batch: the loop around it runs too long to be replaced by its optimised code.
    private void Turn()
    {
        int count = (int)Math.Min(_freeCount, _left);
        if (count > 0)
        {
            long now = Stopwatch.GetTimestamp();
            for (int i = 0; i < count; i++)
            {
                int tag = _free[--_freeCount];
                _started[tag] = now;
                Prepare(tag);
            }

            _left -= count;
            _ring.Submit();
        }

        Reap();
    }

    private void Prepare(int tag)
    {
        long offset = (_isRandom ? NextRandom() : NextInOrder()) * _block;
        long place = (long)tag * _block;
        bool read = _readPercent switch
        {
            100 => true,
            0 => false,
            _ => (long)(Random() % 100) < _readPercent,
        };
        if (read)
            _ring.TryReadFixed(_file, Slot, _bufferStart + place, _block, offset, (ulong)tag);
        else
            _ring.TryWriteFixed(_file, Slot, _writeAreaStart + place, _block, offset, (ulong)tag);
    }

    private void Reap()
    {
        int count = _ring.Reap(_completions, 1);
        long now = Stopwatch.GetTimestamp();
        if (FirstCompletion == 0)
            FirstCompletion = now;
        for (int i = 0; i < count; i++)
        {
            ref readonly RingCompletion completion = ref _completions[i];
            int tag = (int)completion.UserData;
            _free[_freeCount++] = tag;
            if (completion.Status != Errno.Ok || completion.Bytes != _block)
            {
                Fail(completion);
                continue;
            }

            Requests++;
            Latencies.Record(now - _started[tag]);
        }
    }

    private long NextInOrder()
    {
        long block = _first + _cursor;
        if (++_cursor == _blocks)
            _cursor = 0;
        return block;
    }

    private long NextRandom() => _first + (long)Math.BigMul(Random(), (ulong)_blocks, out _);

    // xorshift64*: three shifts and a multiplication per number, and good enough to spread requests.
    private ulong Random()
    {
        ulong x = _seed;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        _seed = x;
        return x * 0x2545F4914F6CDD1DUL;
    }

    private void Fail(in RingCompletion completion) => Failure ??= completion.Status == Errno.Ok
        ? new DmaBufIoException(
            Errno.EIO, "bench", _file.Name, $"a request transferred {completion.Bytes} bytes of {_block}",
            "Check that the device holds as many bytes as it says")
        : new DmaBufIoException(
            completion.Status, "bench", _file.Name, "a request failed", "See what the device itself says, if it says anything",
            inner: _token?.LastMapError);
}
