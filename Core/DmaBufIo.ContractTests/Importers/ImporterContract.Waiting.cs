using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>What the request path may not wait for (T15), and what it does when there is no room (T16).</content>
public abstract partial class ImporterContract
{
    /// <summary>Somebody holds the buffer's lock, and another buffer's, for as long as it takes: requests on a live map are submitted and end all the same.</summary>
    [Fact]
    public virtual void T15_requests_on_a_live_map_need_no_reservation_lock() => OnStage(stage =>
    {
        PuppetExporter other = stage.World.CreateBuffer("other", 64 << 10);
        stage.World.ExpectDriverFaults();
        int length = stage.Blocks(4096);
        stage.CheckRead(0, 0, Bytes(1, length));
        stage.CheckWrite(0, 0, Bytes(2, length));
        using var isHeld = new ManualResetEventSlim();
        using var goOn = new ManualResetEventSlim();
        IActor holder = stage.World.Actors.Start("holder", () =>
        {
            using ReservationGuard first = stage.Buffer.Buffer.Reservation.Lock();
            using ReservationGuard second = other.Buffer.Reservation.Lock();
            isHeld.Set();
            goOn.Wait(4 * Hang.Limit);
        });
        try
        {
            stage.World.Eventually(() => isHeld.IsSet, "T10", "a buffer's lock was not given back.");
            stage.World.Ends(stage.World.Actors.Start("owner", () => Rounds(stage, length)), "T15", "requests on a live map do not end while somebody holds the buffer's lock.");
        }
        finally
        {
            goOn.Set();
        }

        holder.Join();
        CheckFaults(stage, "T15");
    });

    /// <summary>More bios than the device has room for: none is lost, none is done twice, none fails for want of room.</summary>
    [Fact]
    public virtual void T16_a_full_queue_loses_and_doubles_nothing() => OnStage(new StageSetup { Pieces = [2 << 20], Blocks = 512 }, stage =>
    {
        SkipUnless(ImporterCapabilities.KeepsData | ImporterCapabilities.Vectors);
        const int Requests = 64;
        const int Ranges = 8;
        int block = stage.Blocks(512);
        int length = Ranges * block;
        SkipUnless(Requests * length <= stage.Target.Capacity, $"The device holds {stage.Target.Capacity} bytes, and the fact needs {Requests * length}.");
        for (int round = 0; round < 4; round++)
        {
            // Ranges from both ends of the request's part of the buffer in turn, so that none follows another: each is a bio.
            bool isWrite = round % 2 == 1;
            byte[] data = Bytes(round, Requests * length);
            if (isWrite)
                stage.Buffer.Write(0, Scattered(data, length, block, isForward: true));
            else
                stage.Target.Give(0, data);
            for (int i = 0; i < Requests; i++)
            {
                BufferRange[] ranges = [.. Enumerable.Range(0, Ranges).Select(r => new BufferRange(((long)i * length) + (Place(r, Ranges) * block), block))];
                bool prepared = isWrite
                    ? stage.Ring.TryWriteFixedVector(stage.Target.File, 0, ranges, (long)i * length, (ulong)i + 1)
                    : stage.Ring.TryReadFixedVector(stage.Target.File, 0, ranges, (long)i * length, (ulong)i + 1);
                stage.World.Check(prepared, "R4", $"the ring is full with {i} requests although it has room for {Requests}.");
            }

            stage.Ring.Submit();
            foreach (RingCompletion ended in stage.ReapEach(Requests, "T16"))
                stage.Ended(ended, length, "T16", $"a {(isWrite ? "write" : "read")} of {Ranges} ranges while the queue was full");
            byte[] found = isWrite ? stage.Target.Take(0, data.Length) : Scattered(stage.Contents()[..data.Length], length, block, isForward: false);
            stage.CheckEqual(data, found, "T16", $"after {(isWrite ? "writes" : "reads")} through a full queue the data");
        }
    });

    /// <summary>The buffer moves while the queue is full: requests that wait for room hold no reference, and come again.</summary>
    [Fact]
    public virtual void T16_requests_that_wait_for_room_do_not_keep_the_buffer_in_place() => InBothDesigns(
        stage =>
        {
            const int Requests = 64;
            int length = stage.Blocks(4096);
            for (int round = 0; round < 4; round++)
            {
                byte[] data = Bytes(round, Requests * length);
                stage.Give(data, length);
                Reads(stage, Requests, length);
                stage.Ring.Submit();
                stage.Move(elsewhere: round % 2 == 0);
                foreach (RingCompletion ended in stage.ReapEach(Requests, "T16"))
                    stage.Ended(ended, length, "T16", "a read under which the buffer moved, of as many as the ring holds");
                CheckPrefix(stage, data, "T16", "reads under which the buffer moved, as many as the ring holds");
            }
        },
        512 << 10);

    /// <summary>The ranges of one request come in order, each to its own place (I6).</summary>
    [Fact]
    public virtual void I6_the_ranges_of_a_request_are_transferred_in_order() => OnStage(
        stage =>
        {
            SkipUnless(ImporterCapabilities.Vectors | ImporterCapabilities.KeepsData);
            int block = stage.Blocks(512);
            int page = stage.Blocks(4096);

            // One across the joint before the last piece, where blocks are small enough to leave room there for the others.
            int joint = page == 4096 ? 8192 + 4096 + 65536 : page;
            BufferRange[] ranges = [new(10 * page, 2 * block), new(joint - stage.Target.MemoryAlignment, block), new(0, 0), new(4 * page, 3 * block)];
            int length = (int)ranges.Sum(static r => r.Length);
            byte[] data = Bytes(1, length);
            byte[] expected = stage.Contents();
            Spread(ranges, (range, position) => data.AsSpan(position, (int)range.Length).CopyTo(expected.AsSpan((int)range.Offset)));
            stage.Target.Give(0, data);
            stage.World.Check(stage.Ring.TryReadFixedVector(stage.Target.File, 0, ranges, 0, 1), "R4", "the ring is full although nothing is in flight.");
            stage.Ended(stage.Run("I6")[0], length, "I6", "a read of four ranges");
            stage.CheckContents(expected, "I6", "after a read of four ranges the buffer");
            stage.Buffer.Write(0, Bytes(2, (int)stage.Buffer.Buffer.Size));
            byte[] contents = stage.Contents();
            Spread(ranges, (range, position) => contents.AsSpan((int)range.Offset, (int)range.Length).CopyTo(data.AsSpan(position)));
            stage.World.Check(stage.Ring.TryWriteFixedVector(stage.Target.File, 0, ranges, 0, 1), "R4", "the ring is full although nothing is in flight.");
            stage.Ended(stage.Run("I6")[0], length, "I6", "a write of four ranges");
            byte[] found = stage.Target.Take(0, length);
            stage.CheckEqual(data, found, "I6", "a write of four ranges");
        },
        8192, 4096, 65536, 4096);

    private static void Rounds(ImporterStage stage, int length)
    {
        const int Requests = 16;
        for (int round = 0; round < 16; round++)
        {
            stage.Give(new byte[Requests / 2 * length], length);
            stage.Expect(Requests / 2, length);
            for (int i = 0; i < Requests; i++)
            {
                if (i % 2 == 0)
                    stage.Read((long)i * length, (long)i * length, length, (ulong)i + 1);
                else
                    stage.Write((long)i * length, (long)i * length, length, (ulong)i + 1);
            }

            stage.Ring.Submit();
            foreach (RingCompletion ended in stage.ReapEach(Requests, "T15"))
                stage.Ended(ended, length, "T15", "a request on a live map, while somebody held the buffer's lock,");
            stage.Take(Requests / 2, length);
        }
    }

    // 0, last, 1, last but one, ...: a permutation in which no two neighbours follow each other.
    private static int Place(int range, int ranges) => range % 2 == 0 ? range / 2 : ranges - 1 - (range / 2);

    private static byte[] Scattered(byte[] data, int length, int block, bool isForward)
    {
        int ranges = length / block;
        byte[] moved = new byte[data.Length];
        for (int at = 0; at < data.Length; at += block)
        {
            int range = at % length / block;
            int there = at - (range * block) + (Place(range, ranges) * block);
            (int from, int to) = isForward ? (at, there) : (there, at);
            data.AsSpan(from, block).CopyTo(moved.AsSpan(to));
        }

        return moved;
    }

    private static void Spread(BufferRange[] ranges, Action<BufferRange, int> act)
    {
        int position = 0;
        foreach (BufferRange range in ranges)
        {
            act(range, position);
            position += (int)range.Length;
        }
    }
}
