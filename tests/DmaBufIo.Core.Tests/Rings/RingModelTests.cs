using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>
/// The ring over a device, a buffer that moves and too little room of every kind, against two byte arrays. Requests that are in flight
/// together touch different sectors and different places of the buffer, so the order in which the device does them does not matter.
/// </summary>
public sealed class RingModelTests
{
    private const int Sector = 512;
    private const int Areas = 24;
    private const int AreaSectors = 24;
    private const int AreaBytes = AreaSectors * Sector;

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void R4_B3_I6_random_requests_with_little_room_between_invalidations_leave_what_two_byte_arrays_say(InvalidationDesign design)
    {
        for (int run = 0; run < 25; run++)
        {
            int seed = Random.Shared.Next();
            try
            {
                Run(design, new Random(seed));
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
            }
        }
    }

    private static void Run(InvalidationDesign design, Random random)
    {
        int entries = random.Next(1, 13);
        var ring = new RingOptions { Name = "model", Entries = entries, Bios = entries + random.Next(0, 12) };
        var limits = new QueueLimits(Sector) { MaxBytes = Sector * random.Next(1, 10), MaxSegments = random.Next(2, 5) };
        using var stage = new Stage(new TokenOptions { Design = design }, ring, limits);
        stage.Device.QueueDepth = random.Next(1, 8);
        stage.Device.Hold = true;
        var model = new Model(stage, random);
        for (int step = 0; step < 400; step++)
        {
            switch (random.Next(10))
            {
                case < 4:
                    model.Prepare();
                    break;
                case 4:
                    stage.Submit();
                    break;
                case < 7:
                    stage.Device.Finish(random.Next(1, 6));
                    break;
                case 7 when random.Next(4) == 0:
                    model.Invalidate();
                    break;
                case 8 when random.Next(4) == 0:
                    stage.Ring.Context.ReapAsVisitor();
                    break;
                default:
                    model.Reap(0);
                    break;
            }
        }

        stage.Submit();
        stage.Device.Hold = false;
        stage.Device.Finish();
        while (model.Outstanding > 0)
            model.Reap(1);
        model.Check();
        Assert.Equal(0, stage.Ring.InFlight);
        Assert.Equal(0, stage.Invalidate().Users);
    }

    private sealed class Model
    {
        private readonly Stage _stage;
        private readonly Random _random;
        private readonly byte[] _device;
        private readonly byte[] _buffer;
        private readonly Dictionary<ulong, Expected> _expected = [];
        private readonly Stack<int> _deviceAreas = new(Enumerable.Range(0, Areas));
        private readonly Stack<int> _bufferAreas = new(Enumerable.Range(0, Areas));
        private readonly RingCompletion[] _completions = new RingCompletion[8];
        private ulong _next;

        internal Model(Stage stage, Random random)
        {
            _stage = stage;
            _random = random;
            random.NextBytes(stage.Device.Store);
            random.NextBytes(stage.Exporter.Region.Span(0, Stage.BufferSize));
            _device = stage.Device.Store.ToArray();
            _buffer = stage.Exporter.Region.Span(0, Stage.BufferSize).ToArray();
        }

        internal int Outstanding => _expected.Count;

        internal void Prepare()
        {
            if (_stage.Ring.Room == 0)
                return;
            int deviceArea = _deviceAreas.Pop();
            int bufferArea = _bufferAreas.Pop();
            BufferRange[] ranges = Ranges(bufferArea, vector: _random.Next(3) == 0);
            long sectors = ranges.Sum(static r => r.Length) / Sector;
            long fileOffset = (deviceArea * AreaBytes) + (Sector * _random.NextInt64(AreaSectors - sectors + 1));
            bool write = _random.Next(2) == 0;
            ulong id = ++_next;
            _expected.Add(id, new Expected(ranges, fileOffset, write, deviceArea, bufferArea));
            Assert.True(ranges.Length == 1 ? PrepareOne(ranges[0], fileOffset, write, id) : PrepareVector(ranges, fileOffset, write, id));
        }

        internal void Invalidate()
        {
            // In the fenced design a move waits for requests that this thread would have to reap, so it only invalidates then (D2c).
            if (_stage.Ring.InFlight == 0)
            {
                _stage.Move();
                return;
            }

            // Either design makes somebody wait for what is held: the invalidation itself, or whoever makes the next map. That is this
            // thread, and nobody else lets the device go on.
            _stage.Device.Hold = false;
            _stage.Device.Finish();
            _stage.Invalidate();
            while (_stage.Token.Maps != 0)
                _stage.Ring.Context.ReapAsVisitor();
            _stage.Device.Hold = true;
        }

        internal void Reap(int minimum)
        {
            int reaped = _stage.Ring.Reap(_completions, minimum, TestContext.Current.CancellationToken);
            foreach (RingCompletion completion in _completions.AsSpan(0, reaped))
            {
                Assert.True(
                    _expected.Remove(completion.UserData, out Expected? expected), $"request {completion.UserData} completed twice");
                Assert.Equal((Errno.Ok, expected.Bytes), (completion.Status, completion.Bytes));
                Apply(expected);
                _deviceAreas.Push(expected.DeviceArea);
                _bufferAreas.Push(expected.BufferArea);
            }
        }

        internal void Check()
        {
            Assert.True(_stage.Device.Store.SequenceEqual(_device), "the device holds other bytes than the model");
            Assert.True(
                _stage.Exporter.Region.Span(0, Stage.BufferSize).SequenceEqual(_buffer), "the buffer holds other bytes than the model");
        }

        private BufferRange[] Ranges(int area, bool vector)
        {
            // Dword aligned, within the area, not overlapping: pieces of it in a random order.
            int count = vector ? _random.Next(2, 5) : 1;
            int share = (AreaBytes / count) - Sector;
            var ranges = new BufferRange[count];
            for (int i = 0; i < count; i++)
            {
                long length = Sector * _random.NextInt64(i == 0 ? 1 : 0, share / Sector);
                long offset = (area * AreaBytes) + (i * (AreaBytes / count)) + (4 * _random.Next(Sector / 4));
                ranges[i] = new BufferRange(offset & -4, length);
            }

            _random.Shuffle(ranges);
            return ranges;
        }

        private bool PrepareOne(BufferRange range, long fileOffset, bool write, ulong id) => write
            ? _stage.Ring.TryWriteFixed(_stage.File, 0, range.Offset, range.Length, fileOffset, id)
            : _stage.Ring.TryReadFixed(_stage.File, 0, range.Offset, range.Length, fileOffset, id);

        private bool PrepareVector(BufferRange[] ranges, long fileOffset, bool write, ulong id) => write
            ? _stage.Ring.TryWriteFixedVector(_stage.File, 0, ranges, fileOffset, id)
            : _stage.Ring.TryReadFixedVector(_stage.File, 0, ranges, fileOffset, id);

        private void Apply(Expected expected)
        {
            long at = expected.FileOffset;
            foreach (BufferRange range in expected.Ranges)
            {
                Span<byte> memory = _buffer.AsSpan((int)range.Offset, (int)range.Length);
                Span<byte> storage = _device.AsSpan((int)at, (int)range.Length);
                if (expected.Write)
                    memory.CopyTo(storage);
                else
                    storage.CopyTo(memory);
                at += range.Length;
            }
        }

        private sealed record Expected(BufferRange[] Ranges, long FileOffset, bool Write, int DeviceArea, int BufferArea)
        {
            internal long Bytes => Ranges.Sum(static r => r.Length);
        }
    }
}
