using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A block device as a byte array says it should be. Requests of a case are in flight together as long as none touches what another one writes: what such two would leave, nobody promises.
/// Memory is dealt out in slots, one for each request in flight.
/// </summary>
internal sealed class BlockDeviceModel
{
    private const int Slots = 16;
    private const int SlotSize = 128 << 10;
    private readonly BlockDeviceStage _stage;
    private readonly byte[] _contents;
    private readonly List<(long Start, long End, bool IsWrite)> _busy = [];
    private readonly List<(BioPlan Plan, BioBacking Kind, byte[]? Expected)> _inFlight = [];
    private int _seed;
    private BlockLane? _lane;
    private bool _isKnown;

    internal BlockDeviceModel(BlockDeviceStage stage)
    {
        _stage = stage;
        int size = (int)Math.Min(stage.Device.Capacity, 2 << 20) / stage.Block * stage.Block;
        _contents = new byte[size];
    }

    /// <summary>False: what was run last does not end.</summary>
    internal bool CanGoOn => _lane is not { InFlight: > 0 };

    internal void Run(GeneratedStep[] steps)
    {
        BlockLane lane = _lane = _stage.Lane();
        _busy.Clear();
        _inFlight.Clear();

        // What a new device holds nobody knows, nor what one does that has failed.
        if (!_isKnown)
            Clear(lane);
        _isKnown = false;
        foreach (GeneratedStep step in steps)
            Do(lane, step);
        Settle(lane);
        _stage.Close(lane);
        _isKnown = true;
    }

    private void Clear(BlockLane lane)
    {
        _contents.AsSpan().Clear();
        int step = Math.Min(_stage.LargestBio, 65536) / _stage.Block * _stage.Block;
        for (int at = 0; at < _contents.Length; at += step)
            _stage.Write(lane, BioBacking.Pages, at, 0, new byte[Math.Min(step, _contents.Length - at)], "B1");
    }

    private void Do(BlockLane lane, in GeneratedStep step)
    {
        switch (step.Kind)
        {
            case < 5:
                Settle(lane);
                _stage.World.Check(lane.Try(BioPlan.Flush) == Errno.Ok, "Q4", $"a flush ended with {lane.Requests[^1].Status}.");
                break;
            case < 15:
                lane.Commit();
                break;
            case < 25:
                lane.Poll(step.Length % 4 + 1);
                break;
            default:
                Issue(lane, step);
                break;
        }
    }

    private void Issue(BlockLane lane, in GeneratedStep step)
    {
        int block = _stage.Block;
        BioBacking kind = _stage.Kinds[step.Memory % _stage.Kinds.Length];
        int longest = Math.Min(Math.Min(SlotSize - 4096, _stage.LargestBio), _contents.Length);
        long size = Math.Min(longest, ((step.Length % 40 == 0 ? step.Length : step.Length % 40) + 1L) * block) / block * block;
        long start = step.Place % ((_contents.Length - size) / block + 1) * block;
        bool isWrite = step.Kind < 62;
        if (_inFlight.Count == Slots || _busy.Exists(b => b.Start < start + size && start < b.End && (b.IsWrite || isWrite)))
            Settle(lane);
        int align = _stage.Limits.DmaAlignment;
        long memory = (_inFlight.Count * (long)SlotSize) + (step.Memory % (4096 / align) * align);
        BioPlan plan = _stage.Plan(kind, isWrite ? BioOperation.Write : BioOperation.Read, start, memory, size);
        byte[] data = new byte[size];
        new Random(++_seed).NextBytes(data);
        _stage.Put(kind, memory, data);
        if (lane.Submit(plan) == 0)
        {
            // No room: what is in flight makes some.
            Settle(lane);
            lane.Do("B1", plan);
            if (isWrite)
                data.CopyTo(_contents, start);
            else
                _stage.CheckSame(_contents.AsSpan((int)start, (int)size), _stage.Get(kind, memory, (int)size), "B1", $"what a {plan} has brought");
            return;
        }

        byte[]? expected = isWrite ? null : _contents.AsSpan((int)start, (int)size).ToArray();
        if (isWrite)
            data.CopyTo(_contents, start);
        _busy.Add((start, start + size, isWrite));
        _inFlight.Add((plan, kind, expected));
    }

    private void Settle(BlockLane lane)
    {
        lane.Finish();
        foreach (BlockRequest request in lane.Requests)
            _stage.World.Check(request.Status == Errno.Ok, "B1", $"a {request} ended with {request.Status}.");
        foreach ((BioPlan plan, BioBacking kind, byte[]? expected) in _inFlight)
        {
            if (expected is not null)
                _stage.CheckSame(expected, _stage.Get(kind, plan.Offset, expected.Length), "B1", $"what a {plan} has brought");
        }

        _busy.Clear();
        _inFlight.Clear();
    }
}
