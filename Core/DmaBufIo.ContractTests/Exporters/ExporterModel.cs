using System.Security.Cryptography;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A buffer beside a plain array: whatever is done to the one is done to the other, and every look must find the same. Each number is one step, whatever its value; a shorter list is a sequence,
/// too, so that a failure shrinks.
/// </summary>
internal sealed class ExporterModel
{
    private readonly ExporterStage _stage;
    private readonly ExporterCapabilities _can;
    private readonly byte[] _bytes;
    private readonly RawDevice?[] _devices = new RawDevice?[2];
    private readonly List<(RawDevice Device, SgTable Table)> _tables = [];
    private readonly PuppetImporter _importer;
    private readonly ExporterTarget _target;
    private readonly List<string> _done = [];

    internal ExporterModel(ExporterStage stage, ExporterCapabilities can, int size)
    {
        _stage = stage;
        _can = can;
        _target = stage.Create("model", size);
        _bytes = new byte[size];
        _importer = stage.Import(stage.Name("importer"), _target.Buffer);
    }

    private DmaBuf Buffer => _target.Buffer;

    /// <summary>What was done, for a message.</summary>
    internal string History => string.Join(", ", _done);

    /// <summary>Does one step.</summary>
    internal void Step(int number)
    {
        var random = new Random(number);
        int device = random.Next(2);
        switch (random.Next(12))
        {
            case 0 when _devices[device] is null:
                Do("attach");
                _devices[device] = _stage.Attach(_stage.Name("device"), Buffer);
                break;
            case 0 or 1 when _devices[device] is { } attached && _tables.TrueForAll(t => t.Device != attached):
                Do("detach");
                _devices[device] = null;
                _stage.Close(attached);
                break;
            case 2 or 3 when _devices[device] is { } attached:
                DmaDirection direction = (DmaDirection)random.Next(1, 4);
                Do($"map for {direction}");
                _tables.Add((attached, attached.Map(direction)));
                break;
            case 4 when _tables.Count != 0:
                Do("unmap");
                (RawDevice unmapped, SgTable table) = _tables[random.Next(_tables.Count)];
                _tables.Remove((unmapped, table));
                unmapped.Unmap(table);
                break;
            case 5 when _can.HasFlag(ExporterCapabilities.Moves):
                Do("move");
                _stage.Move(_target);
                break;
            case 6:
                Transfer(random, isRead: true);
                break;
            case 7:
                Transfer(random, isRead: false);
                break;
            case 8 when _can.HasFlag(ExporterCapabilities.HostMemory):
                (int offset, int length) = Range(random, 1);
                Do($"write {offset}+{length} by CPU");
                byte[] written = Random(random, length);
                _stage.Put(written, offset, Buffer);
                written.CopyTo(_bytes, offset);
                break;
            case 9 when _can.HasFlag(ExporterCapabilities.Jobs):
                Job(random);
                break;
            case 10 or 11:
                Access(random);
                break;
        }
    }

    /// <summary>Gives everything back and looks at all of it.</summary>
    internal void Finish()
    {
        Do("finish");
        _stage.CheckContents(_bytes, "N1", $"after [{History}]", Buffer);
        foreach (RawDevice device in _devices.OfType<RawDevice>())
            _stage.Close(device);
        _stage.Close(_importer);
        _stage.Settle(Buffer);
        DmaBuf buffer = Buffer;
        _stage.World.Eventually(() => buffer.References == 1, "T10", () => $"after [{History}] {buffer.References - 1} references on the buffer are held by nobody.");
        _stage.Drop(_target);
    }

    /// <summary>A step has broken a rule: gives back what the model has, as far as that goes.</summary>
    internal void Abandon()
    {
        foreach (IDisposable left in _devices.OfType<IDisposable>().Append(_importer))
            Record.Exception(() => _stage.Close(left));
        Record.Exception(() => _stage.Drop(_target));
    }

    private static byte[] Random(Random random, int length)
    {
        byte[] bytes = new byte[length];
        random.NextBytes(bytes);
        return bytes;
    }

    private void Do(string step) => _done.Add(step);

    private (int Offset, int Length) Range(Random random, int unit)
    {
        int units = _bytes.Length / unit;
        int length = random.Next(1, Math.Min(units, 9000 / unit));
        return (random.Next(units - length + 1) * unit, length * unit);
    }

    private void Transfer(Random random, bool isRead)
    {
        (int offset, int length) = Range(random, 512);
        Do($"{(isRead ? "read" : "write")} {offset}+{length} by a request");
        if (isRead)
        {
            byte[] brought = Random(random, length);
            brought.CopyTo(_importer.Device.Store);
            _importer.Read(offset, length);
            _importer.Run("N1", $"the last of [{History}]");
            brought.CopyTo(_bytes, offset);
            return;
        }

        _importer.Write(offset, length);
        _importer.Run("N1", $"the last of [{History}]");
        _stage.CheckBytes(_bytes.AsSpan(offset, length), _importer.Device.Store[..length], "N1", $"after [{History}] the bytes at {offset} that a request found");
    }

    private void Access(Random random)
    {
        // A table of a place that was left is only to be given back.
        (RawDevice Device, SgTable Table)[] current = [.. _tables.Where(t => t.Table.Generation == Buffer.Generation)];
        if (current.Length == 0)
            return;
        (RawDevice device, SgTable table) = current[random.Next(current.Length)];
        (int offset, int length) = Range(random, 1);
        if (table.Direction != DmaDirection.FromDevice && random.Next(2) == 0)
        {
            Do($"read {offset}+{length} by a device");
            _stage.CheckBytes(_bytes.AsSpan(offset, length), device.Read(table, offset, length), "N1", $"after [{History}] the bytes at {offset} that a device found");
        }
        else if (table.Direction != DmaDirection.ToDevice)
        {
            Do($"write {offset}+{length} by a device");
            byte[] written = Random(random, length);
            device.Write(table, offset, written);
            written.CopyTo(_bytes, offset);
        }
    }

    private void Job(Random random)
    {
        IComputeBuffers compute = _target.Compute!;
        (int offset, int length) = Range(random, 1);
        IComputeJob job;
        switch (random.Next(3))
        {
            case 0:
                Do($"fill {offset}+{length}");
                byte value = (byte)random.Next();
                job = compute.Fill(Buffer, offset, length, value);
                _bytes.AsSpan(offset, length).Fill(value);
                break;
            case 1:
                Do($"copy {offset}+{length / 2} within the buffer");
                job = compute.Copy(Buffer, offset, Buffer, offset + length - (length / 2), length / 2);
                _bytes.AsSpan(offset, length / 2).CopyTo(_bytes.AsSpan(offset + length - (length / 2)));
                break;
            default:
                Do($"hash {offset}+{length}");
                job = compute.Hash(Buffer, offset, length);
                Wait(job);
                _stage.World.Check(job.Result.Span.SequenceEqual(SHA256.HashData(_bytes.AsSpan(offset, length))), "T12", $"after [{History}] a job found other bytes.");
                return;
        }

        // Not always waited for: what comes next waits by itself, but a table that exists does not.
        if (_tables.Count != 0 || random.Next(2) == 0)
            Wait(job);
    }

    private void Wait(IComputeJob job)
    {
        using var limit = new CancellationTokenSource(Hang.Limit);
        _stage.World.Check(job.Fence.Wait(limit.Token) == Errno.Ok && job.Failure is null, "T12", $"after [{History}] a job does not end, or has failed: {job.Failure}");
    }
}
