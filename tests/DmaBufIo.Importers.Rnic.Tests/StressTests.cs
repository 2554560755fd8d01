using System.Diagnostics;
using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Tests;

/// <summary>
/// Real threads: messages and RDMA both ways between two cards while the buffers of both ends move all the time. Every byte is checked, counts balance (<see cref="Rig"/>), and nobody waits for more than a second.
/// </summary>
public sealed class StressTests
{
    private const int Block = 4096;
    private const int Blocks = 32;

    /// <summary>Transfers of each run.</summary>
    private static int Transfers => int.TryParse(Environment.GetEnvironmentVariable("DMABUFIO_RNIC_TRANSFERS"), out int all) ? all : 100_000;

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void Messages_and_RDMA_stay_exact_while_both_ends_move_all_the_time(InvalidationDesign design)
    {
        var waits = new List<LongWait>();
        void OnWait(LongWait wait)
        {
            lock (waits)
                waits.Add(wait);
        }

        DmaBufIoDiagnostics.LongWaitDetected += OnWait;
        try
        {
            using var rig = new Rig(ownThread: true) { Tokens = new TokenOptions { Design = design } };
            Run(rig);
        }
        finally
        {
            DmaBufIoDiagnostics.LongWaitDetected -= OnWait;
        }

        Assert.Empty(waits);
    }

    private static void Run(Rig rig)
    {
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect(new RdmaQueuePairOptions { SendDepth = Blocks, ReceiveDepth = Blocks });
        MovingExporter near = rig.Buffer("near", 2 * Blocks * Block);
        MovingExporter far = rig.Buffer("far", 2 * Blocks * Block);
        const RdmaAccess All = RdmaAccess.LocalWrite | RdmaAccess.RemoteRead | RdmaAccess.RemoteWrite;
        RdmaMemoryRegion source = rig.Register(rig.Left, near, All);
        RdmaMemoryRegion target = rig.Register(rig.Right, far, All);
        using var stop = new CancellationTokenSource();
        int moves = 0;
        Exception? failure = null;
        var mover = new Thread(() =>
        {
            try
            {
                while (!stop.IsCancellationRequested)
                {
                    near.Move();
                    far.Move();
                    moves++;

                    // One move after the other for a while, then as a busy memory manager would.
                    if (moves % 100 >= 20)
                        Thread.Sleep(1);
                }
            }
            catch (Exception e)
            {
                failure = e;
            }
        })
        {
            Name = "mover",
        };
        mover.Start();
        long longest = 0;
        int done = 0;
        try
        {
            // And until enough has moved meanwhile, which depends on the machine.
            for (int round = 0; done < Transfers || Volatile.Read(ref moves) <= 20 || source.Token.MapsMade <= 20 || target.Token.MapsMade <= 20; round++)
            {
                long begun = Stopwatch.GetTimestamp();
                done += Round(round, near, far, source, target, left, right);
                longest = Math.Max(longest, Stopwatch.GetTimestamp() - begun);
                Assert.Null(failure);
            }
        }
        finally
        {
            stop.Cancel();
            mover.Join();
        }

        Assert.Null(failure);
        TimeSpan stuck = TimeSpan.FromSeconds((double)longest / Stopwatch.Frequency);
        Assert.True(stuck < TimeSpan.FromSeconds(1), $"a round took {stuck}");
        TestContext.Current.SendDiagnosticMessage($"{done} transfers, {moves} moves of each buffer, {source.Token.MapsMade} and {target.Token.MapsMade} maps, longest round {stuck.TotalMilliseconds:0} ms");
    }

    /// <summary>There by message or RDMA write, back by message or RDMA read; each way is checked for itself.</summary>
    private static int Round(int round, MovingExporter near, MovingExporter far, RdmaMemoryRegion source, RdmaMemoryRegion target, RdmaQueuePair left, RdmaQueuePair right)
    {
        Stamp(near, 0, 3 * round);
        if (round % 2 == 0)
        {
            for (int i = 0; i < Blocks; i++)
                Assert.Equal(Errno.Ok, right.PostReceive(RdmaWorkRequest.Receive((ulong)i, target, i * Block, Block)));
            for (int i = 0; i < Blocks; i++)
                Assert.Equal(Errno.Ok, left.PostSend(RdmaWorkRequest.Send((ulong)i, source, i * Block, Block)));
            Take(right.ReceiveCompletions, Blocks);
        }
        else
        {
            for (int i = 0; i < Blocks; i++)
                Assert.Equal(Errno.Ok, left.PostSend(new RdmaWorkRequest((ulong)i, RdmaOpcode.RdmaWrite, source.LocalKey, i * Block, Block, target.RemoteKey, i * Block)));
        }

        Take(left.SendCompletions, Blocks);
        Check(far, 0, 3 * round);
        Stamp(far, Blocks, (3 * round) + 1);
        if (round % 3 == 0)
        {
            for (int i = 0; i < Blocks; i++)
                Assert.Equal(Errno.Ok, left.PostReceive(RdmaWorkRequest.Receive((ulong)i, source, (Blocks + i) * Block, Block)));
            for (int i = 0; i < Blocks; i++)
                Assert.Equal(Errno.Ok, right.PostSend(RdmaWorkRequest.Send((ulong)i, target, (Blocks + i) * Block, Block)));
            Take(right.SendCompletions, Blocks);
            Take(left.ReceiveCompletions, Blocks);
        }
        else
        {
            for (int i = 0; i < Blocks; i++)
                Assert.Equal(Errno.Ok, left.PostSend(new RdmaWorkRequest((ulong)i, RdmaOpcode.RdmaRead, source.LocalKey, (Blocks + i) * Block, Block, target.RemoteKey, (Blocks + i) * Block)));
            Take(left.SendCompletions, Blocks);
        }

        Check(near, Blocks, (3 * round) + 1);
        return 2 * Blocks;
    }

    private static void Take(RdmaCompletionQueue queue, int count)
    {
        Span<RdmaCompletion> completions = stackalloc RdmaCompletion[16];
        var watch = Stopwatch.StartNew();
        for (int next = 0; next < count;)
        {
            int taken = queue.Poll(completions);
            foreach (RdmaCompletion completion in completions[..taken])
                Assert.True(completion is { Status: RdmaStatus.Success, Length: Block } && completion.Id == (ulong)next++, $"{completion}");
            if (taken == 0)
                Thread.Yield();
            Assert.True(watch.Elapsed < Rig.Limit, "nothing comes any more");
        }
    }

    // The buffer may move at any moment: its memory is touched with its lock held.
    private static void Stamp(MovingExporter exporter, int first, int version)
    {
        using ReservationGuard guard = exporter.Buffer.Reservation.Lock();
        for (int i = 0; i < Blocks; i++)
        {
            Span<byte> memory = exporter.Region.Span((first + i) * Block, Block);
            for (int at = 0; at < Block; at += 256)
                BitConverter.TryWriteBytes(memory[at..], (long)version << 32 | (uint)((i << 16) + at));
        }
    }

    private static void Check(MovingExporter exporter, int first, int version)
    {
        using ReservationGuard guard = exporter.Buffer.Reservation.Lock();
        for (int i = 0; i < Blocks; i++)
        {
            Span<byte> memory = exporter.Region.Span((first + i) * Block, Block);
            for (int at = 0; at < Block; at += 256)
                Assert.Equal((long)version << 32 | (uint)((i << 16) + at), BitConverter.ToInt64(memory[at..]));
        }
    }
}
