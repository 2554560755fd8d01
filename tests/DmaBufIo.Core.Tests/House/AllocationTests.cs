using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Rings;

namespace DmaBufIo.Tests.House;

/// <summary>Nothing else may run meanwhile: what another thread allocates would be counted.</summary>
[CollectionDefinition(nameof(AllocationTests), DisableParallelization = true)]
public sealed class AllocationTests
{
    private const int Requests = 1_000_000;
    private const int Batch = 64;

    [Collection(nameof(AllocationTests))]
    public sealed class Path
    {
        [Theory]
        [InlineData("plain")]
        [InlineData("split")]
        [InlineData("vector")]
        [InlineData("parked")]
        [InlineData("flush")]
        public void T6_and_the_rule_of_the_house_no_request_allocates_anything_on_its_way(string kind)
        {
            using var stage = new Stage(ring: new RingOptions { Name = "quiet", Entries = Batch, Bios = 4 * Batch });
            var device = new QuietBlockDevice(
                stage.Device.Device, 1 << 20, new QueueLimits(512) { MaxBytes = kind == "split" ? 1024 : 1 << 20 });
            if (kind == "parked")
                device.Room = Batch / 2;
            var file = new BlockDeviceFile(device);
            stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
            var completions = new RingCompletion[Batch];
            ReadOnlyMemory<BufferRange> ranges = new BufferRange[] { new(0, 512), new(8192, 1024), new(4096, 512) };
            Assert.Equal(Errno.Ok, Go(stage.Ring, file, kind, ranges, completions, 10_000));

            // The runtime itself allocates now and then, when it compiles a method anew. What a request allocates, it allocates in
            // every window.
            long thread = 0;
            long process = 0;
            for (int window = 0; window < 4; window++)
            {
                long bios = device.Bios;
                long processBefore = GC.GetTotalAllocatedBytes(precise: true);
                long threadBefore = GC.GetAllocatedBytesForCurrentThread();
                Errno status = Go(stage.Ring, file, kind, ranges, completions, Requests);
                thread = GC.GetAllocatedBytesForCurrentThread() - threadBefore;
                process = GC.GetTotalAllocatedBytes(precise: true) - processBefore;
                TestContext.Current.SendDiagnosticMessage($"{kind}, window {window}: thread {thread}, process {process}");
                Assert.Equal(Errno.Ok, status);
                Assert.Equal(kind switch { "split" => 2L, "vector" => 3, _ => 1 }, (device.Bios - bios) / Requests);
                if (thread == 0 && process == 0)
                    break;
            }

            Assert.Equal((0L, 0L), (thread, process));
            file.Put();
        }

        private static Errno Go(
            Ring ring, BlockDeviceFile file, string kind, ReadOnlyMemory<BufferRange> ranges, RingCompletion[] completions, int count)
        {
            CancellationToken cancellation = TestContext.Current.CancellationToken;
            int started = 0;
            int ended = 0;
            Errno status = Errno.Ok;
            while (ended < count)
            {
                while (started < count && Prepare(ring, file, kind, ranges))
                    started++;
                ring.Submit(cancellation);
                int reaped = ring.Reap(completions, 1, cancellation);
                for (int i = 0; i < reaped; i++)
                    status = completions[i].Status == Errno.Ok ? status : completions[i].Status;
                ended += reaped;
            }

            return status;
        }

        private static bool Prepare(Ring ring, BlockDeviceFile file, string kind, ReadOnlyMemory<BufferRange> ranges) => kind switch
        {
            "vector" => ring.TryReadFixedVector(file, 0, ranges, 0, 1),
            "split" => ring.TryWriteFixed(file, 0, 4096, 2048, 0, 1),
            "flush" => ring.TryFlush(file, 1),
            _ => ring.TryReadFixed(file, 0, 4096, 4096, 0, 1),
        };
    }
}
