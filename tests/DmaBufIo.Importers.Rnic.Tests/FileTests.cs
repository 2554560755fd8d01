using System.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Iov;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rdma;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.Rnic.Tests;

/// <summary>A queue pair as a file: a write sends one message, a read receives one, from and into registered buffers.</summary>
public sealed class FileTests
{
    private const int Size = 256 << 10;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_write_sends_and_a_read_receives_one_message_in_both_directions(bool ownThread)
    {
        using var rig = new Rig(ownThread);
        using var stage = new Stage(rig);
        var random = new Random(3);
        foreach ((Ring from, IoFile fromFile, MovingExporter source, Ring to, IoFile toFile, MovingExporter target) in stage.BothWays())
        {
            foreach ((int at, int into, int length, int room) in new[] { (0, 0, 4096, 4096), (4, 8, 1, 100), (12, 0, 100_000, 150_000), (0, 4096, 65536, 65536) })
            {
                random.NextBytes(source.Region.Span(0, Size));
                random.NextBytes(target.Region.Span(0, Size));
                byte[] expected = target.Region.Span(0, Size).ToArray();
                source.Region.Span(at, length).CopyTo(expected.AsSpan(into));
                Assert.True(to.TryReadFixed(toFile, 0, into, room, 0, 7));
                to.Submit(Rig.Token);
                Assert.True(from.TryWriteFixed(fromFile, 0, at, length, 0, 8));
                Assert.True(from.TryFlush(fromFile, 9));
                from.Submit(Rig.Token);

                // Short when the message is shorter.
                Assert.Equal([new RingCompletion(7, Errno.Ok, length)], stage.Reap(to, 1));
                Assert.Equal([new RingCompletion(8, Errno.Ok, length), new RingCompletion(9, Errno.Ok, 0)], stage.Reap(from, 2).OrderBy(static c => c.UserData));
                Assert.True(target.Region.Span(0, Size).SequenceEqual(expected));
            }
        }

        Assert.Equal(0, rig.Iommu.Faults);
    }

    [Fact]
    public void A_message_longer_than_the_read_is_EMSGSIZE_at_both_ends()
    {
        using var rig = new Rig();
        using var stage = new Stage(rig);
        stage.Right.TryReadFixed(stage.RightFile, 0, 0, 4095, 0, 1);
        stage.Right.TryReadFixed(stage.RightFile, 0, 0, 4096, 0, 2);
        stage.Right.Submit(Rig.Token);
        Assert.Equal((Errno.EMSGSIZE, 0L), stage.Do(stage.Left, r => r.TryWriteFixed(stage.LeftFile, 0, 0, 4096, 0, 3)));
        Assert.Equal([(1UL, Errno.EMSGSIZE), (2UL, Errno.ECONNRESET)], stage.Reap(stage.Right, 2).Select(static c => (c.UserData, c.Status)));
    }

    [Fact]
    public void What_a_file_of_messages_cannot_do_is_refused_with_its_errno()
    {
        using var rig = new Rig();
        using var stage = new Stage(rig, connect: false);
        (Ring ring, IoFile file) = (stage.Left, stage.LeftFile);
        Assert.Equal(Errno.ENOTCONN, stage.Do(ring, r => r.TryWriteFixed(file, 0, 0, 8, 0, 1)).Status);
        Assert.Equal(Errno.ENOTCONN, stage.Do(ring, r => r.TryReadFixed(file, 0, 0, 8, 0, 1)).Status);
        Assert.Equal(Errno.ENOTCONN, stage.Do(ring, r => r.TryFlush(file, 1)).Status);
        stage.Connect();
        Assert.Equal(Errno.EINVAL, stage.Do(ring, r => r.TryWriteFixed(file, 0, 0, 8, 8, 1)).Status);
        Assert.Equal(Errno.EINVAL, stage.Do(ring, r => r.TryReadFixed(file, 0, 0, 8, -1, 1)).Status);
        Assert.Equal(Errno.EFAULT, stage.Do(ring, r => r.TryWriteFixed(file, 0, Size - 4, 8, 0, 1)).Status);
        Assert.Equal(Errno.EFAULT, stage.Do(ring, r => r.TryWriteFixed(file, 0, long.MaxValue - 3, 8, 0, 1)).Status);
        Assert.Equal(Errno.EBADF, stage.Do(ring, r => r.TryWriteFixed(stage.RightFile, 0, 0, 8, 0, 1)).Status);
        Assert.Equal((Errno.Ok, 0L), stage.Do(ring, r => r.TryWriteFixed(file, 0, 0, 0, 0, 1)));
        Assert.Equal(Errno.EOPNOTSUPP, stage.Do(ring, r => r.TryWriteFixedVector(file, 0, new[] { new BufferRange(0, 8) }, 0, 1)).Status);
        ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Near.Buffer, File = file, Direction = DmaDirection.ToDevice });
        Assert.Equal(Errno.EACCES, stage.Do(ring, r => r.TryReadFixed(file, 1, 0, 8, 0, 1)).Status);
        file.SetDirect(false);
        Assert.Equal(Errno.EINVAL, stage.Do(ring, r => r.TryWriteFixed(file, 0, 0, 8, 0, 1)).Status);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => ring.RegisterBuffer(2, new BufferRegistration { Buffer = stage.Near.Buffer, File = file })).Errno);
        file.SetDirect(true);
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => stage.LeftPair.OpenFile()).Errno);
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => stage.Right.AddFile(file)).Errno);
        using RdmaCompletionQueue queue = rig.Left.CreateCompletionQueue(128);
        using (RdmaQueuePair shared = rig.Left.CreateQueuePair(new RdmaQueuePairOptions { SendCompletions = queue }))
            Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => shared.OpenFile()).Errno);

        // Plain memory of the application, mapped per request, is not the card's.
        var exporter = new StubbornExporter("still", 4096) { IsStubborn = false };
        ring.RegisterBuffer(3, new BufferRegistration { Buffer = exporter.Buffer, File = file, Mapping = BufferMapping.PerRequest });
        Assert.Equal(Errno.EOPNOTSUPP, stage.Do(ring, r => r.TryWriteFixed(file, 3, 0, 8, 0, 1)).Status);
        RemovedBuffer removed = ring.RemoveBuffer(3);
        Assert.Equal(Errno.Ok, removed.WaitReleased(Rig.Token));
        exporter.Buffer.Put();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void T11_requests_in_flight_end_with_ECONNRESET_when_the_peer_goes_and_with_ENODEV_when_the_card_does(bool ownCard)
    {
        using var rig = new Rig();
        using var stage = new Stage(rig);
        (Ring ring, IoFile file) = (stage.Left, stage.LeftFile);
        for (ulong i = 0; i < 3; i++)
        {
            ring.TryWriteFixed(file, 0, 0, 4096, 0, i);
            ring.TryReadFixed(file, 0, 4096, 4096, 0, 10 + i);
        }

        ring.TryFlush(file, 20);
        ring.Submit(Rig.Token);
        (ownCard ? rig.Left : rig.Right).Dispose();
        Errno expected = ownCard ? Errno.ENODEV : Errno.ECONNRESET;
        RingCompletion[] ends = stage.Reap(ring, 7);
        Assert.All(ends, c => Assert.Equal((expected, 0L), (c.Status, c.Bytes)));
        Assert.Equal(new ulong[] { 0, 1, 2, 10, 11, 12, 20 }, ends.Select(static c => c.UserData).Order().ToArray());
        Assert.Equal(expected, stage.Do(ring, r => r.TryWriteFixed(file, 0, 0, 8, 0, 1)).Status);
        Assert.Equal(expected, stage.Do(ring, r => r.TryReadFixed(file, 0, 0, 8, 0, 1)).Status);
        Assert.Equal(ownCard, file.IsRemoved);
        if (ownCard)
            Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => ring.RegisterBuffer(5, new BufferRegistration { Buffer = stage.Near.Buffer, File = file })).Errno);
    }

    [Fact]
    public void T14_T15_a_buffer_whose_read_waits_for_a_message_moves_at_once_also_on_the_rings_own_thread()
    {
        using var rig = new Rig();
        using var stage = new Stage(rig);
        stage.Right.TryReadFixed(stage.RightFile, 0, 0, 4096, 0, 1);
        stage.Right.Submit(Rig.Token);
        stage.Left.TryWriteFixed(stage.LeftFile, 0, 0, 4096, 0, 2);
        stage.Left.Submit(Rig.Token);
        stage.Reap(stage.Right, 1);
        stage.Reap(stage.Left, 1);
        stage.Right.TryReadFixed(stage.RightFile, 0, 0, 4096, 0, 3);
        stage.Right.Submit(Rig.Token);
        Assert.NotNull(stage.Right.TokenAt(0)!.LiveGeneration);
        for (int i = 0; i < 3; i++)
            stage.Far.Move(Rig.Token);
        Assert.Null(stage.Right.TokenAt(0)!.LiveGeneration);
        stage.Near.Region.Span(0, 4096).Fill(0x3C);
        stage.Left.TryWriteFixed(stage.LeftFile, 0, 0, 4096, 0, 4);
        stage.Left.Submit(Rig.Token);
        Assert.Equal([new RingCompletion(3, Errno.Ok, 4096)], stage.Reap(stage.Right, 1));
        Assert.Equal(4096, stage.Far.Region.Span(0, Size).Count((byte)0x3C));
    }

    [Fact]
    public void R6_a_registration_that_is_removed_with_a_read_in_flight_lives_until_the_message_has_come()
    {
        using var rig = new Rig();
        using var stage = new Stage(rig);
        stage.Right.TryReadFixed(stage.RightFile, 0, 0, 4096, 0, 1);
        stage.Right.Submit(Rig.Token);
        RemovedBuffer removed = stage.Right.RemoveBuffer(0);
        Assert.Equal(Errno.EFAULT, stage.Do(stage.Right, r => r.TryReadFixed(stage.RightFile, 0, 0, 8, 0, 2)).Status);
        Assert.False(removed.IsReleased);
        Assert.NotNull(removed.Token);
        stage.Near.Region.Span(0, 4096).Fill(0x3D);
        Assert.Equal((Errno.Ok, 4096L), stage.Do(stage.Left, r => r.TryWriteFixed(stage.LeftFile, 0, 0, 4096, 0, 3)));

        // Nobody reaps the ring but the wait.
        Assert.Equal(Errno.Ok, removed.WaitReleased(Rig.Token));
        Assert.True(removed.IsReleased);
        Assert.Equal([new RingCompletion(1, Errno.Ok, 4096)], stage.Reap(stage.Right, 1));
        Assert.Equal(4096, stage.Far.Region.Span(0, Size).Count((byte)0x3D));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void T16_more_than_the_queues_hold_waits_in_the_rings_and_both_ends_go_on(bool ownThread)
    {
        using var rig = new Rig(ownThread);
        using var stage = new Stage(rig, depth: 4);
        foreach ((Ring ring, IoFile file) in new[] { (stage.Left, stage.LeftFile), (stage.Right, stage.RightFile) })
        {
            // Sends first, more than there is room for: the receives that would let the peer go on stand behind them.
            for (ulong i = 0; i < 30; i++)
                Assert.True(ring.TryWriteFixed(file, 0, 0, 100 + (long)i, 0, i));
            for (ulong i = 0; i < 30; i++)
                Assert.True(ring.TryReadFixed(file, 0, 4096, 4096, 0, 100 + i));
            ring.Submit(Rig.Token);
        }

        var ends = new Dictionary<Ring, List<RingCompletion>> { [stage.Left] = [], [stage.Right] = [] };
        var completions = new RingCompletion[16];
        var watch = Stopwatch.StartNew();
        while (ends.Values.Any(static e => e.Count < 60))
        {
            foreach (Ring ring in ends.Keys)
                ends[ring].AddRange(completions[..ring.Reap(completions)]);
            Assert.True(watch.Elapsed < Rig.Limit, $"{string.Join(" and ", ends.Values.Select(static e => e.Count))} of 60 requests have ended");
        }

        foreach (List<RingCompletion> end in ends.Values)
        {
            Assert.Equal(Enumerable.Range(0, 30).Select(static i => new RingCompletion((ulong)i, Errno.Ok, 100 + i)), end.Where(static c => c.UserData < 100));
            Assert.Equal(Enumerable.Range(0, 30).Select(static i => new RingCompletion(100 + (ulong)i, Errno.Ok, 100 + i)), end.Where(static c => c.UserData >= 100));
        }
    }

    [Theory]
    [InlineData(CompletionMode.Polling)]
    [InlineData(CompletionMode.Interrupts)]
    public void A_stream_of_messages_stays_in_order_and_exact_while_both_buffers_move(CompletionMode completion)
    {
        using var rig = new Rig(ownThread: true);
        using var stage = new Stage(rig, completion: completion);
        const int Messages = 20_000;
        const int Depth = 16;
        using var stop = new CancellationTokenSource();
        Exception? failure = null;
        Thread Start(string name, Action work)
        {
            var thread = new Thread(() =>
            {
                try
                {
                    work();
                }
                catch (Exception e)
                {
                    failure ??= e;
                }
            })
            {
                Name = name,
            };
            thread.Start();
            return thread;
        }

        var free = new SemaphoreSlim(0);
        Thread mover = Start("mover", () =>
        {
            while (!stop.IsCancellationRequested)
            {
                stage.Near.Move();
                stage.Far.Move();
                Thread.Sleep(1);
            }
        });
        Thread sender = Start("sender", () =>
        {
            for (int i = 0; i < Messages; i += Depth)
            {
                // The last ones go when enough has moved.
                if (i + Depth >= Messages)
                    Assert.True(SpinWait.SpinUntil(() => stage.Near.Moves > 5, Rig.Limit), "the buffer does not move");
                for (int k = i; k < i + Depth; k++)
                {
                    using (stage.Near.Buffer.Reservation.Lock())
                        BitConverter.TryWriteBytes(stage.Near.Region.Span(k % Depth * 4096, 4), k);
                    Assert.True(stage.Left.TryWriteFixed(stage.LeftFile, 0, k % Depth * 4096, 1000 + (k % 100), 0, (ulong)k));
                }

                stage.Left.Submit();
                foreach (RingCompletion end in stage.Reap(stage.Left, Depth))
                    Assert.Equal((Errno.Ok, 1000L + ((int)end.UserData % 100)), (end.Status, end.Bytes));
            }
        });
        Thread receiver = Start("receiver", () =>
        {
            for (int i = 0; i < Messages; i += Depth)
            {
                for (int k = i; k < i + Depth; k++)
                    Assert.True(stage.Right.TryReadFixed(stage.RightFile, 0, k % Depth * 4096, 4096, 0, (ulong)k));
                stage.Right.Submit();
                int next = i;
                foreach (RingCompletion end in stage.Reap(stage.Right, Depth))
                {
                    int k = next++;
                    Assert.Equal(new RingCompletion((ulong)k, Errno.Ok, 1000 + (k % 100)), end);
                    using (stage.Far.Buffer.Reservation.Lock())
                        Assert.Equal(k, BitConverter.ToInt32(stage.Far.Region.Span(k % Depth * 4096, 4)));
                }
            }
        });
        bool ended = sender.Join(3 * Rig.Limit) && receiver.Join(Rig.Limit);
        stop.Cancel();
        Assert.True(ended, $"the stream is stuck: {failure}");
        mover.Join();
        Assert.Null(failure);
    }

    /// <summary>Two connected pairs as files, a ring and a buffer at each end, registered in slot 0.</summary>
    private sealed class Stage : IDisposable
    {
        internal Stage(Rig rig, bool connect = true, CompletionMode completion = CompletionMode.Polling, int depth = 64)
        {
            var options = new RdmaQueuePairOptions { SendDepth = depth, ReceiveDepth = depth };
            LeftPair = rig.Pair(rig.Left, options);
            RightPair = rig.Pair(rig.Right, options);
            if (connect)
                Connect();
            LeftFile = LeftPair.OpenFile();
            RightFile = RightPair.OpenFile();
            Near = rig.Buffer("near", Size);
            Far = rig.Buffer("far", Size);
            Left = new Ring(new RingOptions { Name = "left", Entries = 64, Completion = completion });
            Right = new Ring(new RingOptions { Name = "right", Entries = 64, Completion = completion });
            Left.RegisterBuffer(0, new BufferRegistration { Buffer = Near.Buffer, File = LeftFile });
            Right.RegisterBuffer(0, new BufferRegistration { Buffer = Far.Buffer, File = RightFile });
        }

        internal RdmaQueuePair LeftPair { get; }

        internal RdmaQueuePair RightPair { get; }

        internal IoFile LeftFile { get; }

        internal IoFile RightFile { get; }

        internal Ring Left { get; }

        internal Ring Right { get; }

        internal MovingExporter Near { get; }

        internal MovingExporter Far { get; }

        internal void Connect()
        {
            LeftPair.Connect(RightPair.Address);
            RightPair.Connect(LeftPair.Address);
        }

        internal IEnumerable<(Ring, IoFile, MovingExporter, Ring, IoFile, MovingExporter)> BothWays()
        {
            yield return (Left, LeftFile, Near, Right, RightFile, Far);
            yield return (Right, RightFile, Far, Left, LeftFile, Near);
        }

        internal RingCompletion[] Reap(Ring ring, int count)
        {
            var completions = new RingCompletion[count];
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(Rig.Token);
            limit.CancelAfter(Rig.Limit);
            int reaped = ring.Reap(completions, count, limit.Token);
            Assert.True(reaped == count, $"{reaped} of {count} requests of {ring.Name} have ended within {Rig.Limit}");
            return completions;
        }

        internal (Errno Status, long Bytes) Do(Ring ring, Func<Ring, bool> prepare)
        {
            Assert.True(prepare(ring));
            ring.Submit(Rig.Token);
            RingCompletion completion = Reap(ring, 1)[0];
            return (completion.Status, completion.Bytes);
        }

        public void Dispose()
        {
            LeftPair.Disconnect();
            Left.Dispose();
            Right.Dispose();
            LeftFile.Put();
            RightFile.Put();
            var watch = Stopwatch.StartNew();
            while (Near.Buffer.References + Far.Buffer.References > 2)
            {
                Assert.True(watch.Elapsed < Rig.Limit, "a registration was not released");
                Thread.Sleep(1);
            }

            Assert.True(LeftFile.IsClosed && RightFile.IsClosed);
        }
    }
}
