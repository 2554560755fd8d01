using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Rings;
using DmaBufIo.Tests.House;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.Rings;

/// <summary>What a request allocates: nothing, whatever memory it uses and however its end is heard of.</summary>
[Collection(nameof(AllocationTests))]
public sealed class QuietRingTests : IDisposable
{
    private const int Requests = 1_000_000;
    private const int Batch = 64;
    private readonly Stage _stage = new(register: false);
    private readonly MemoryRegion _memory = MemoryRegion.Allocate("own", 1 << 16);
    private readonly QuietBlockDevice _device;
    private readonly BlockDeviceFile _file;
    private IoStatus _unexpected;
    private volatile bool _stop;

    public QuietRingTests()
    {
        _device = new QuietBlockDevice(_stage.Device.Device, 1 << 20, new QueueLimits(512));
        _file = new BlockDeviceFile(_device);
    }

    public void Dispose()
    {
        _file.Put();
        _stage.Dispose();
        _memory.Dispose();
    }

    [Theory]
    [InlineData(BufferMapping.Premapped, false)]
    [InlineData(BufferMapping.PerRequest, false)]
    [InlineData(BufferMapping.PerRequest, true)]
    public void T6_a_request_on_registered_memory_allocates_nothing_in_either_mapping(BufferMapping mapping, bool vector)
    {
        using (Ring ring = Open(mapping, driven: false))
        {
            var completions = new RingCompletion[Batch];
            CancellationToken cancellation = TestContext.Current.CancellationToken;
            ReadOnlyMemory<BufferRange> ranges = new BufferRange[] { new(0, 512), new(8192, 1024), new(4096, 512) };
            AssertQuiet(count =>
            {
                for (int started = 0, ended = 0; ended < count;)
                {
                    while (started < count && (vector
                        ? ring.TryReadFixedVector(_file, 0, ranges, 0, 1) : ring.TryReadFixed(_file, 0, 4096, 4096, 0, 1)))
                    {
                        started++;
                    }

                    ring.Submit(cancellation);
                    int reaped = ring.Reap(completions, 1, cancellation);
                    for (int i = 0; i < reaped; i++)
                        Note(new IoStatus(completions[i].Status, completions[i].Bytes), vector ? 2048 : 4096);
                    ended += reaped;
                }
            });
            End(ring);
        }
    }

    [Theory]
    [InlineData(1, false, false)]
    [InlineData(32, false, false)]
    [InlineData(32, true, false)]
    [InlineData(32, false, true)]
    [InlineData(32, true, true)]
    public void The_rule_of_the_house_an_awaited_request_allocates_nothing(int workers, bool cancellable, bool timed)
    {
        using (Ring ring = Open(BufferMapping.Premapped, driven: false, timed ? TimeSpan.FromDays(1) : Timeout.InfiniteTimeSpan))
        {
            using var cancel = new CancellationTokenSource();
            CancellationToken token = cancellable ? cancel.Token : CancellationToken.None;
            Task[] all = [.. Enumerable.Range(0, workers).Select(_ => Work(ring, token))];
            CancellationToken test = TestContext.Current.CancellationToken;
            AssertQuiet(count =>
            {
                for (int ended = 0; ended < count;)
                    ended += ring.Drive(1, test);
            });
            _stop = true;
            while (ring.Drive(1, test) != 0)
            {
            }

            Assert.All(all, static t => Assert.True(t.IsCompletedSuccessfully, t.Exception?.ToString()));
            End(ring);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    public void The_rule_of_the_house_a_request_that_a_driver_thread_takes_over_allocates_nothing(int workers)
    {
        using (Ring ring = Open(BufferMapping.Premapped, driven: true))
        {
            Task[] all = [.. Enumerable.Range(0, workers).Select(_ => Work(ring, CancellationToken.None))];
            AssertQuiet(
                count =>
                {
                    for (long until = _device.Bios + count; _device.Bios < until;)
                        Thread.Sleep(1);
                },
                workers == 1 ? Requests / 4 : Requests); // a thread switch each, at worst
            _stop = true;
            Actor.Until(() => Array.TrueForAll(all, static t => t.IsCompleted), "the workers have ended");
            Assert.All(all, static t => Assert.True(t.IsCompletedSuccessfully, t.Exception?.ToString()));
            End(ring);
        }
    }

    private static void End(Ring ring) =>
        Assert.Equal(Errno.Ok, ring.RemoveBuffer(0).WaitReleased(TestContext.Current.CancellationToken));

    private async Task Work(Ring ring, CancellationToken cancellationToken)
    {
        while (!_stop)
            Note(await ring.ReadFixedAsync(_file, 0, 4096, 4096, 0, cancellationToken).ConfigureAwait(false), 4096);
    }

    private void Note(IoStatus status, long bytes)
    {
        if (status != new IoStatus(Errno.Ok, bytes))
            _unexpected = status;
    }

    private Ring Open(BufferMapping mapping, bool driven, TimeSpan? timeout = null)
    {
        var ring = new Ring(new RingOptions
        {
            Name = "quiet",
            Entries = Batch,
            Bios = 4 * Batch,
            DriverThread = driven,
            RequestTimeout = timeout ?? Timeout.InfiniteTimeSpan,
        });
        ring.RegisterBuffer(0, new BufferRegistration { Memory = _memory, File = _file, Mapping = mapping });
        return ring;
    }

    /// <summary>
    /// The runtime itself allocates now and then, when it compiles a method anew. What a request allocates, it allocates in every window.
    /// </summary>
    private void AssertQuiet(Action<int> work, int requests = Requests)
    {
        work(20_000);
        long allocated = 0;
        for (int window = 0; window < 12; window++)
        {
            long bios = _device.Bios;
            long before = GC.GetTotalAllocatedBytes(precise: true);
            work(requests);
            allocated = GC.GetTotalAllocatedBytes(precise: true) - before;
            TestContext.Current.SendDiagnosticMessage($"window {window}: {allocated} bytes");
            Assert.Equal(default, _unexpected);
            Assert.True(_device.Bios - bios >= requests - Batch, $"{_device.Bios - bios} bios in the window");
            if (allocated == 0)
                break;
        }

        Assert.Equal(0, allocated);
    }
}
