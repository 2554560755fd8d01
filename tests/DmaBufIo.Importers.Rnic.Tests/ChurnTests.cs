using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Tests;

/// <summary>Connections that end at any moment, on real threads, while both buffers move: every request has exactly one completion, in order, and the rig's end finds nothing left.</summary>
public sealed class ChurnTests
{
    private const int Depth = 16;
    private const int Size = 64 << 10;
    private const RdmaAccess All = RdmaAccess.LocalWrite | RdmaAccess.RemoteRead | RdmaAccess.RemoteWrite;

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void T11_T18_whatever_ends_a_connection_each_request_ends_once_and_in_order(InvalidationDesign design)
    {
        var random = new Random(11);
        for (int round = 0; round < 60; round++)
        {
            using var rig = new Rig(ownThread: true) { Tokens = new TokenOptions { Design = design } };
            (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect(new RdmaQueuePairOptions { SendDepth = Depth, ReceiveDepth = Depth });
            MovingExporter[] buffers = [rig.Buffer("near", Size), rig.Buffer("far", Size)];
            RdmaMemoryRegion near = rig.Register(rig.Left, buffers[0], All);
            RdmaMemoryRegion far = rig.Register(rig.Right, buffers[1], All);
            using var stop = new CancellationTokenSource();
            var mover = new Thread(() =>
            {
                for (int i = 0; !stop.IsCancellationRequested; i++)
                {
                    buffers[i % 2].Move();
                    Thread.Yield();
                }
            })
            {
                Name = "mover",
            };
            mover.Start();
            for (int i = 0; i < Depth; i++)
            {
                Assert.Equal(Errno.Ok, right.PostReceive(RdmaWorkRequest.Receive((ulong)i, far, 0, Size)));
                Assert.Equal(Errno.Ok, left.PostReceive(RdmaWorkRequest.Receive((ulong)i, near, 0, Size)));
            }

            for (int i = 0; i < Depth; i++)
            {
                Assert.Equal(Errno.Ok, left.PostSend(RdmaWorkRequest.Send((ulong)i, near, 0, i % 3 == 0 ? Size : 100)));
                Assert.Equal(Errno.Ok, right.PostSend(new RdmaWorkRequest((ulong)i, RdmaOpcode.RdmaRead, far.LocalKey, 0, i % 4 == 0 ? Size : 100, near.RemoteKey)));
            }

            long pause = Stopwatch.GetTimestamp() + random.Next((int)(Stopwatch.Frequency / 2000));
            while (Stopwatch.GetTimestamp() < pause)
                Thread.Yield();
            switch (round % 6)
            {
                case 0: rig.Left.Dispose(); break;
                case 1: rig.Right.Dispose(); break;
                case 2: rig.Right.Reset(); break;
                case 3: left.Disconnect(); break;
                case 4: right.Dispose(); break;
                default: rig.Left.Reset(); break;
            }

            AssertEach(left);
            AssertEach(right);
            stop.Cancel();
            Assert.True(mover.Join(Rig.Limit), "the mover waits for something");
        }
    }

    private static void AssertEach(RdmaQueuePair pair)
    {
        RdmaCompletion[] all = Rig.Next(pair.SendCompletions, 2 * Depth);
        foreach (IGrouping<bool, RdmaCompletion> queue in all.GroupBy(static c => c.Opcode == RdmaOpcode.Receive))
        {
            Assert.Equal(Enumerable.Range(0, Depth).Select(static i => (ulong)i), queue.Select(static c => c.Id));
            Assert.DoesNotContain(queue.SkipWhile(static c => c.Status == RdmaStatus.Success), static c => c.Status == RdmaStatus.Success);
        }

        Rig.AssertNothing(pair.SendCompletions);
        Assert.Equal(RdmaQueuePairState.Error, pair.State);
    }
}
