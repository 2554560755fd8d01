using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.NvmePci.Tests.Harness;
using DmaBufIo.Pci.Model;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.NvmePci.Tests;

/// <summary>Rings that sleep until the controller interrupts. Where no health check is due, a lost interrupt would be a hang.</summary>
public sealed class InterruptTests
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);
    private static readonly NvmeModelOptions s_threaded = Rig.Small with { OwnThread = true };

    [Theory]
    [InlineData(true, 1)]
    [InlineData(true, 32)]
    [InlineData(false, 1)]
    [InlineData(false, 32)]
    public void No_interrupt_is_lost_by_a_controller_with_a_thread_of_its_own_or_inline(bool ownThread, int depth) => Rig.With(
        rig => WithRing(rig, Timeout.InfiniteTimeSpan, (ring, file) =>
        {
            const int Requests = 20_000;
            var completions = new RingCompletion[depth];
            int ended = 0;
            int begun = 0;
            while (ended < Requests)
            {
                for (; begun - ended < depth && begun < Requests; begun++)
                    Assert.True(ring.TryReadFixed(file, 0, begun % depth * 4096, 4096, begun % 64 * 4096, (ulong)begun));
                ended += Run(ring, completions);
            }
        }),
        Rig.Small with { OwnThread = ownThread });

    [Fact]
    public void Each_ring_has_a_vector_of_its_own_and_a_closed_one_leaves_none_behind() => Rig.With(
        rig =>
        {
            for (int round = 0; round < 3; round++)
            {
                WithRing(rig, Timeout.InfiniteTimeSpan, (first, firstFile) =>
                    WithRing(rig, Timeout.InfiniteTimeSpan, (second, secondFile) =>
                {
                    var completions = new RingCompletion[1];
                    for (int i = 0; i < 100; i++)
                    {
                        Assert.True(first.TryReadFixed(firstFile, 0, 0, 4096, 0, 1));
                        Run(first, completions);
                        Assert.True(second.TryReadFixed(secondFile, 0, 0, 4096, 0, 1));
                        Run(second, completions);
                    }
                }));
            }

            // The same queue, polled: nobody is called any more.
            Lane lane = rig.Lane();
            Assert.Equal(Errno.Ok, lane.Flush());
        },
        s_threaded);

    [Fact]
    public void N8_a_reset_wakes_the_sleeping_ring_and_interrupts_come_after_it_as_before() => Rig.With(
        rig => WithRing(rig, Timeout.InfiniteTimeSpan, (ring, file) =>
        {
            rig.Model.Stall = true;
            var reset = new Thread(() =>
            {
                // Enabled again it works again.
                rig.Function.OnWrite = (offset, value) =>
                {
                    if (offset == 0x14 && (value & 1) != 0)
                        rig.Model.Stall = false;
                    return false;
                };
                rig.Binding.Reset();
            });
            Assert.True(ring.TryReadFixed(file, 0, 0, 4096, 0, 1));
            ring.Submit(TestContext.Current.CancellationToken);
            reset.Start();
            var completions = new RingCompletion[1];
            Assert.Equal(1, Reap(ring, completions));
            Assert.Equal(Errno.ECANCELED, completions[0].Status);
            Assert.True(reset.Join(s_limit));
            for (int i = 0; i < 100; i++)
            {
                Assert.True(ring.TryReadFixed(file, 0, 0, 4096, 0, 1));
                Run(ring, completions);
            }
        }),
        s_threaded);

    [Fact]
    public void N8_who_was_refused_while_the_controller_was_reset_is_woken_when_there_is_room_again() => Rig.With(
        rig =>
        {
            using var context = new DmaBufIo.Io.IoContext("test");
            using var bios = new BioPool(4);
            using BlockQueue queue = rig.Device.OpenQueue(context, bios, 4);
            int calls = 0;
            Assert.True(queue.TryEnableInterrupts(() => Interlocked.Increment(ref calls)));
            int taken = -1;
            int before = -1;
            rig.Function.OnWrite = (offset, value) =>
            {
                // Nothing is in flight, and nothing will be: no completion ever tells that there is room.
                if (offset == 0x14 && (value & 1) == 0)
                {
                    Assert.True(bios.TryAllocateFlush(out BioHandle bio));
                    context.Visit(() => taken = queue.Submit(new ReadOnlySpan<BioHandle>(in bio)));
                    bios.Release(bio);
                    before = Volatile.Read(ref calls);
                }

                return false;
            };
            rig.Binding.Reset();
            Assert.Equal((0, true), (taken, Volatile.Read(ref calls) > before));
            rig.Function.OnWrite = null;
        },
        s_threaded);

    [Fact]
    public void N8_a_controller_that_goes_silent_is_noticed_by_a_ring_that_sleeps() => Rig.With(
        rig => WithRing(rig, TimeSpan.FromMilliseconds(10), (ring, file) =>
        {
            rig.Model.Stall = true;
            Assert.True(ring.TryReadFixed(file, 0, 0, 4096, 0, 1));
            ring.Submit(TestContext.Current.CancellationToken);
            rig.Function.OnWrite = (offset, value) =>
            {
                if (offset == 0x14 && (value & 1) != 0)
                    rig.Model.Stall = false;
                return false;
            };
            var completions = new RingCompletion[1];
            Assert.Equal(1, Reap(ring, completions));
            Assert.Equal(Errno.ECANCELED, completions[0].Status);
        }),
        s_threaded,
        new NvmePciOptions { TimeoutMilliseconds = 50 });

    [Fact]
    public void A_function_without_enough_vectors_is_refused_for_interrupts_and_can_be_polled() => Rig.With(
        rig =>
        {
            rig.Function.Vectors = 1;
            var refused = Assert.Throws<DmaBufIoException>(() => WithRing(rig, Timeout.InfiniteTimeSpan, static (_, _) => { }));
            Assert.Equal(Errno.EOPNOTSUPP, refused.Errno);
            Assert.Equal(Errno.Ok, rig.Lane().Flush());
        },
        s_threaded);

    private static void WithRing(Rig rig, TimeSpan healthCheck, Action<Ring, BlockDeviceFile> test)
    {
        var (buffer, _) = TestExporter.Create([1 << 20], null);
        var file = new BlockDeviceFile(rig.Device);
        try
        {
            using var ring = new Ring(
                new RingOptions { Entries = 64, Completion = CompletionMode.Interrupts, HealthCheckInterval = healthCheck });
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer, File = file });
            DmaBufIo.Tokens.DmaBufToken token = ring.TokenAt(0)!;
            test(ring, file);
            ring.Dispose();
            Assert.Equal(Errno.Ok, token.WaitReleased(TestContext.Current.CancellationToken));
        }
        finally
        {
            file.Put();
            buffer.Put();
        }
    }

    private static int Run(Ring ring, RingCompletion[] completions)
    {
        ring.Submit(TestContext.Current.CancellationToken);
        int count = Reap(ring, completions);
        Assert.NotEqual(0, count);
        foreach (ref readonly RingCompletion completion in completions.AsSpan(0, count))
            Assert.Equal((Errno.Ok, 4096L), (completion.Status, completion.Bytes));
        return count;
    }

    private static int Reap(Ring ring, RingCompletion[] completions)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        limit.CancelAfter(s_limit);
        int count = ring.Reap(completions, 1, limit.Token);

        // The limit itself wakes it too, and then it finds what it has slept over.
        Assert.False(limit.IsCancellationRequested, "the ring was not woken");
        return count;
    }
}
