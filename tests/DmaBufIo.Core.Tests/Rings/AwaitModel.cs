using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Rings;

namespace DmaBufIo.Tests.Rings;

/// <summary>Workers that await, each in an area of its own, beside plain requests in others; what the arrays say is what must be there.</summary>
internal sealed class AwaitModel
{
    private const int Sector = 512;
    private const int AreaBytes = 64 * Sector;
    private readonly Stage _stage;
    private readonly byte[] _buffer;
    private readonly byte[] _device;

    internal AwaitModel(Stage stage, Random random)
    {
        _stage = stage;
        random.NextBytes(stage.Device.Store);
        random.NextBytes(stage.Exporter.Region.Span(0, Stage.BufferSize));
        _buffer = stage.Exporter.Region.Span(0, Stage.BufferSize).ToArray();
        _device = stage.Device.Store.ToArray();
    }

    internal static void Run(Random random)
    {
        int count = random.Next(1, 7);
        int entries = count + random.Next(6);
        using var stage = new Stage(
            ring: new RingOptions { Name = "awaited", Entries = entries, Bios = entries + random.Next(6) },
            limits: new QueueLimits(Sector) { MaxBytes = Sector * random.Next(1, 10) });
        stage.Device.QueueDepth = random.Next(1, 8);
        var model = new AwaitModel(stage, random);
        var workers = Enumerable.Range(0, count).Select(i => model.Work(i, new Random(random.Next()), 60)).ToList();
        var completions = new RingCompletion[4];
        int plain = 0;
        for (int step = 0; step < 100_000 && !workers.TrueForAll(static w => w.IsCompleted); step++)
        {
            if (random.Next(8) == 0)
                stage.Move();
            if (random.Next(3) == 0 && plain < entries - count)
            {
                Assert.True(stage.Ring.TryFlush(stage.File, 1), "there is a place for each worker and the plain requests beside");
                plain++;
            }

            if (random.Next(2) == 0)
                stage.Ring.Drive(random.Next(3), TestContext.Current.CancellationToken);
            stage.Ring.Submit(TestContext.Current.CancellationToken);
            plain -= stage.Ring.Reap(completions, random.Next(2), TestContext.Current.CancellationToken);
        }

        stage.Drive(Task.WhenAll(workers));
        Assert.Equal(plain, plain == 0 ? 0 : stage.Reap(plain).Length);
        model.Check();
    }

    /// <summary>One worker; with fewer places than workers it asks again, on the thread pool.</summary>
    internal async Task Work(int worker, Random random, int requests, bool mayBeFull = false)
    {
        long start = worker * (long)AreaBytes;
        for (int i = 0; i < requests; i++)
        {
            long length = Sector * random.NextInt64(1, 20);
            long at = start + (4 * random.NextInt64(((AreaBytes - length) / 4) + 1));
            long fileAt = start + (Sector * random.NextInt64(((AreaBytes - length) / Sector) + 1));
            bool write = random.Next(2) == 0;
            IoStatus status;
            do
            {
                status = write
                    ? await _stage.Ring.WriteFixedAsync(_stage.File, 0, at, length, fileAt).ConfigureAwait(false)
                    : await _stage.Ring.ReadFixedAsync(_stage.File, 0, at, length, fileAt).ConfigureAwait(false);
                if (mayBeFull && status.Status == Errno.EAGAIN)
                    await Task.Yield();
            }
            while (mayBeFull && status.Status == Errno.EAGAIN);
            Assert.Equal(new IoStatus(Errno.Ok, length), status);
            Span<byte> memory = _buffer.AsSpan((int)at, (int)length);
            Span<byte> storage = _device.AsSpan((int)fileAt, (int)length);
            if (write)
                memory.CopyTo(storage);
            else
                storage.CopyTo(memory);
        }
    }

    internal void Check()
    {
        Assert.True(_stage.Device.Store.SequenceEqual(_device), "the device holds other bytes than the model");
        Assert.True(_stage.Exporter.Region.Span(0, Stage.BufferSize).SequenceEqual(_buffer), "the buffer holds other bytes than the model");
    }
}
