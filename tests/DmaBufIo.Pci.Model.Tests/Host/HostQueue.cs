using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace DmaBufIo.Pci.Model.Tests.Host;

/// <summary>The host's side of one queue pair, as plain as it can be.</summary>
internal sealed class HostQueue(
    NvmeHost host, int id, ulong submission, int submissionSize, ulong completion, int completionSize, int completionId)
{
    private readonly ulong _submission = submission;
    private readonly ulong _completion = completion;
    private ushort _nextId;

    internal int Id => id;

    internal int Tail { get; private set; }

    internal int Head { get; private set; }

    internal int Phase { get; private set; } = 1;

    /// <summary>Writes an entry without telling the controller.</summary>
    internal ushort Place(Command command, bool ownId = false)
    {
        if (!ownId)
            command.Id = _nextId++;
        command.CopyTo(host.Fabric.Memory(_submission + (ulong)Tail * 64, 64));
        Tail = (Tail + 1) % submissionSize;
        return command.Id;
    }

    internal void Ring() => host.Model.Write32(0, 0x1000 + id * 8, (uint)Tail);

    internal ushort Submit(Command command, bool ownId = false)
    {
        ushort commandId = Place(command, ownId);
        Ring();
        return commandId;
    }

    /// <summary>Takes the next completion if there is one; the head doorbell is rung unless told otherwise.</summary>
    internal bool TryReap(out Completion result, bool ring = true)
    {
        Span<byte> entry = host.Fabric.Memory(_completion + (ulong)Head * 16, 16);
        ulong second = Volatile.Read(ref MemoryMarshal.Cast<byte, ulong>(entry)[1]);
        result = default;
        if (((second >> 48) & 1) != (ulong)Phase)
            return false;
        result = new Completion(
            BinaryPrimitives.ReadUInt32LittleEndian(entry),
            (int)(second & 0xFFFF),
            (int)((second >> 16) & 0xFFFF),
            (ushort)(second >> 32),
            (int)(second >> 49));
        if (++Head == completionSize)
        {
            Head = 0;
            Phase ^= 1;
        }

        if (ring)
            RingHead();
        return true;
    }

    internal void RingHead() => host.Model.Write32(0, 0x1000 + completionId * 8 + 4, (uint)Head);

    /// <summary>The next completion; fails after 30 s.</summary>
    internal Completion Reap(bool ring = true)
    {
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            host.Model.Advance();
            if (TryReap(out Completion result, ring))
                return result;
            if (Stopwatch.GetElapsedTime(start) > TimeSpan.FromSeconds(30))
                Assert.Fail($"queue {id}: no completion; CSTS is {host.Model.Read32(0, 0x1C):x}");
            Thread.Yield();
        }
    }

    internal Completion Run(Command command)
    {
        ushort commandId = Submit(command);
        Completion result = Reap();
        Assert.Equal(commandId, result.Id);
        Assert.Equal(id, result.SqId);
        return result;
    }
}
