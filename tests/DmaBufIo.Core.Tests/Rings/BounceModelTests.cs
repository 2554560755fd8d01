using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tests.House;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>
/// Random requests against byte arrays: one buffer registered with a device that needs aligned memory, with one that takes no tokens, and with one that sometimes cannot map; offsets to the
/// byte, several pieces, vectors, little room, bios that fail, and a buffer that moves at any moment.
/// </summary>
[Collection(nameof(AllocationTests))]
public sealed class BounceModelTests
{
    private const int Sector = 512;
    private const int Areas = 16;
    private const int AreaBytes = 32768;

    [Theory]
    [InlineData(InvalidationDesign.Draining, true)]
    [InlineData(InvalidationDesign.Draining, false)]
    [InlineData(InvalidationDesign.Fenced, true)]
    [InlineData(InvalidationDesign.Fenced, false)]
    public void F7_T16_random_requests_direct_and_bounced_leave_what_byte_arrays_say_and_every_copy_is_counted(InvalidationDesign design, bool calm)
    {
        for (int run = 0; run < 12; run++)
        {
            int seed = Random.Shared.Next();
            try
            {
                Run(design, calm, new Random(seed));
            }
            catch (Exception e) when (e is not OperationCanceledException)
            {
                throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
            }
        }
    }

    private static void Run(InvalidationDesign design, bool calm, Random random)
    {
        int entries = random.Next(2, 13);
        var ring = new RingOptions
        {
            Name = "model",
            Entries = entries,
            Bios = calm ? 1024 : entries + random.Next(0, 12),
            TransferPolicy = TransferPolicy.AllowBounce,
            BouncePoolSize = 4096 * random.Next(1, 20),
        };
        var limits = new QueueLimits(Sector) { MaxBytes = calm ? 1 << 20 : Sector * random.Next(2, 12) };
        using var stage = new Stage(new TokenOptions { Design = design }, ring, limits, register: false);
        var model = new Model(stage, limits, random);
        if (!calm)
            model.LimitRoom();
        for (int step = 0; step < 400; step++)
        {
            switch (random.Next(12))
            {
                case < 5:
                    model.Prepare();
                    break;
                case 5:
                    stage.Submit();
                    break;
                case < 8:
                    model.Finish(random.Next(1, 6), calm || random.Next(8) != 0 ? Errno.Ok : Errno.EIO);
                    break;
                case 8 when random.Next(4) == 0:
                    model.Move();
                    break;
                case 9 when random.Next(4) == 0:
                    stage.Ring.Context.ReapAsVisitor();
                    break;
                case 10:
                    model.ChangeMind();
                    break;
                default:
                    model.Reap(0);
                    break;
            }
        }

        stage.Submit();
        model.LetGo();
        while (model.Outstanding > 0)
            model.Reap(1);
        model.Check(exact: calm);
        Assert.Equal((0, 0L), (stage.Ring.InFlight, stage.Invalidate().Users));
        model.Close();
    }

    private sealed class Model
    {
        private readonly Stage _stage;
        private readonly Random _random;
        private readonly PuppetBlockDevice[] _devices;
        private readonly BlockDeviceFile[] _files;
        private readonly byte[][] _stores;
        private readonly byte[] _buffer;
        private readonly Dictionary<ulong, Expected> _expected = [];
        private readonly Stack<int>[] _deviceAreas;
        private readonly Stack<int> _bufferAreas = new(Enumerable.Range(0, Areas));
        private readonly RingCompletion[] _completions = new RingCompletion[8];
        private readonly long _copiedBefore = Counters.BytesCopied.Value;
        private long _bounced;
        private long _bouncedBytes;
        private ulong _next;

        internal Model(Stage stage, QueueLimits limits, Random random)
        {
            _stage = stage;
            _random = random;
            _devices = [stage.Device, stage.AddDevice("puppet1", limits), stage.AddDevice("puppet2", limits)];
            _devices[1].TakesTokens = false;
            _files = [stage.File, new BlockDeviceFile(_devices[1]), new BlockDeviceFile(_devices[2])];
            for (int slot = 0; slot < 3; slot++)
            {
                _devices[slot].Hold = true;
                random.NextBytes(_devices[slot].Store);
                stage.Ring.RegisterBuffer(slot, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = _files[slot] });
            }

            random.NextBytes(stage.Exporter.Region.Span(0, Stage.BufferSize));
            _stores = [.. _devices.Select(static d => d.Store.ToArray())];
            _buffer = stage.Exporter.Region.Span(0, Stage.BufferSize).ToArray();
            _deviceAreas = [.. _devices.Select(static _ => new Stack<int>(Enumerable.Range(0, Areas)))];
        }

        internal int Outstanding => _expected.Count;

        internal void LimitRoom()
        {
            foreach (PuppetBlockDevice device in _devices)
                device.QueueDepth = _random.Next(1, 8);
        }

        /// <summary>The third device begins or ceases to reach the buffer's memory.</summary>
        internal void ChangeMind() => _devices[2].FailMap = _random.Next(2) == 0 ? null : static () => BounceStage.Refusal(Errno.EREMOTEIO);

        internal void Prepare()
        {
            if (_stage.Ring.Room == 0)
                return;
            int slot = _random.Next(3);
            int deviceArea = _deviceAreas[slot].Pop();
            int bufferArea = _bufferAreas.Pop();
            BufferRange[] ranges = Ranges(bufferArea, vector: _random.Next(3) == 0);
            long bytes = ranges.Sum(static r => r.Length);
            long fileOffset = (deviceArea * AreaBytes) + (Sector * _random.NextInt64(((AreaBytes - bytes) / Sector) + 1));
            bool write = _random.Next(2) == 0;
            ulong id = ++_next;
            _expected.Add(id, new Expected(slot, ranges, fileOffset, write, deviceArea, bufferArea));
            Ring ring = _stage.Ring;
            IoFile file = _files[slot];
            Assert.True(
                ranges.Length > 1
                    ? write ? ring.TryWriteFixedVector(file, slot, ranges, fileOffset, id) : ring.TryReadFixedVector(file, slot, ranges, fileOffset, id)
                    : write ? ring.TryWriteFixed(file, slot, ranges[0].Offset, bytes, fileOffset, id) : ring.TryReadFixed(file, slot, ranges[0].Offset, bytes, fileOffset, id));
        }

        internal void Finish(int count, Errno status)
        {
            PuppetBlockDevice device = _devices[_random.Next(3)];
            device.FailWith = status;
            device.Finish(count);
            device.FailWith = Errno.Ok;
        }

        internal void LetGo()
        {
            foreach (PuppetBlockDevice device in _devices)
            {
                device.Hold = false;
                device.Finish();
            }
        }

        /// <summary>With everything in flight: this thread waits, and reaps while it does.</summary>
        internal void Move()
        {
            LetGo();
            _stage.Move();
            foreach (PuppetBlockDevice device in _devices)
                device.Hold = true;
        }

        internal void Reap(int minimum)
        {
            int reaped = _stage.Ring.Reap(_completions, minimum, TestContext.Current.CancellationToken);
            foreach (RingCompletion completion in _completions.AsSpan(0, reaped))
            {
                Assert.True(_expected.Remove(completion.UserData, out Expected? expected), $"request {completion.UserData} completed twice");
                CheckReason(completion, expected);
                if (completion.Bounce != BounceReason.None)
                {
                    _bounced++;
                    _bouncedBytes += completion.Bytes;
                }

                if (completion.Status == Errno.Ok)
                    Assert.Equal(expected.Bytes, completion.Bytes);
                else
                    Assert.Equal(Errno.EIO, completion.Status);

                // A bounced read that has failed has moved what it says, from its start, and nothing else. Of others the model takes over what is there.
                bool known = completion.Status == Errno.Ok || (completion.Bounce != BounceReason.None && !expected.Write);
                Apply(expected, known ? completion.Bytes : 0);
                if (!known)
                    TakeOver(expected);
                _deviceAreas[expected.Slot].Push(expected.DeviceArea);
                _bufferAreas.Push(expected.BufferArea);
            }
        }

        internal void Check(bool exact)
        {
            for (int i = 0; i < 3; i++)
                Assert.True(_devices[i].Store.SequenceEqual(_stores[i]), $"device {i} holds other bytes than the model");
            Assert.True(_stage.Exporter.Region.Span(0, Stage.BufferSize).SequenceEqual(_buffer), "the buffer holds other bytes than the model");
            Assert.Equal((_bounced, _bouncedBytes), (_stage.Ring.Counters.Bounced, _stage.Ring.Counters.BouncedBytes));
            long copied = Counters.BytesCopied.Value - _copiedBefore;
            Assert.True(exact ? copied == _bouncedBytes : copied >= _bouncedBytes, $"{copied} bytes were copied for {_bouncedBytes} that were bounced");
        }

        internal void Close()
        {
            for (int slot = 0; slot < 3; slot++)
                Assert.Equal(Errno.Ok, _stage.Ring.RemoveBuffer(slot).WaitReleased(TestContext.Current.CancellationToken));
            Assert.Equal((1, 0), (_stage.Exporter.Buffer.References, _stage.Exporter.Buffer.Attachments));
            Assert.All(_devices, static d => Assert.Equal((0, 0), (d.LiveMaps, d.LiveTokens)));
        }

        private static void CheckReason(RingCompletion completion, Expected expected)
        {
            bool aligned = Array.TrueForAll(expected.Ranges, static r => r.Offset % 4 == 0 && r.Length % Sector == 0);
            BounceReason[] possible = expected.Slot switch
            {
                1 => [BounceReason.NotMappable],
                2 => [BounceReason.NoPeerToPeer, aligned ? BounceReason.None : BounceReason.Unaligned],
                _ => [aligned ? BounceReason.None : BounceReason.Unaligned],
            };
            Assert.Contains(completion.Bounce, possible);
        }

        private BufferRange[] Ranges(int area, bool vector)
        {
            // Within the area, not overlapping; whole blocks in all. Half of them where the device can reach them.
            int count = vector ? _random.Next(2, 5) : 1;
            int share = AreaBytes / count;
            bool aligned = _random.Next(2) == 0;
            var ranges = new BufferRange[count];
            long total = 0;
            for (int i = 0; i < count; i++)
            {
                int length = aligned ? Sector * _random.Next(1, (share / Sector) - 2) : _random.Next(1, share - (3 * Sector));
                if (i == count - 1)
                    length += (int)((Sector - ((total + length) % Sector)) % Sector);
                total += length;
                int offset = _random.Next(share - length);
                ranges[i] = new BufferRange((area * AreaBytes) + (i * share / 4 * 4) + (aligned ? offset & -4 : offset), length);
            }

            // The last stays the last: the lengths before it decide on its own.
            _random.Shuffle(ranges.AsSpan(0, count - 1));
            return ranges;
        }

        private void Apply(Expected expected, long bytes)
        {
            long at = expected.FileOffset;
            foreach (BufferRange range in expected.Ranges)
            {
                int length = (int)Math.Min(range.Length, bytes);
                Span<byte> memory = _buffer.AsSpan((int)range.Offset, length);
                Span<byte> storage = _stores[expected.Slot].AsSpan((int)at, length);
                if (expected.Write)
                    memory.CopyTo(storage);
                else
                    storage.CopyTo(memory);
                at += length;
                bytes -= length;
            }
        }

        private void TakeOver(Expected expected)
        {
            foreach (BufferRange range in expected.Ranges)
            {
                if (!expected.Write)
                    _stage.Exporter.Region.Span(range.Offset, (int)range.Length).CopyTo(_buffer.AsSpan((int)range.Offset));
            }

            if (expected.Write)
                _devices[expected.Slot].Store.Slice((int)expected.FileOffset, (int)expected.Bytes).CopyTo(_stores[expected.Slot].AsSpan((int)expected.FileOffset));
        }

        private sealed record Expected(int Slot, BufferRange[] Ranges, long FileOffset, bool Write, int DeviceArea, int BufferArea)
        {
            internal long Bytes => Ranges.Sum(static r => r.Length);
        }
    }
}
