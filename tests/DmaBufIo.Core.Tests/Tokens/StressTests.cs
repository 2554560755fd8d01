using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>Real threads, bounded by count: everything at once, and at the end every byte and every count.</summary>
public sealed class StressTests
{
    private const int Rings = 3;
    private const int Rounds = 120; // at least, until both buffers have moved often enough
    private const int Moves = 50;
    private const int Batch = 8;
    private const int Block = 4096;
    private const int Area = Batch * Block;
    private const int SourceSize = 1 << 20;

    [Theory]
    [InlineData(InvalidationDesign.Draining)]
    [InlineData(InvalidationDesign.Fenced)]
    public void F7_T14_T17_rings_share_buffers_that_move_while_devices_reset_and_slots_change(InvalidationDesign design)
    {
        using var iommu = new ModelIommu();
        (Dma.DmaAddressSpace space, Dma.DmaPort port) = iommu.AddDevice("stress");
        var device = new PuppetBlockDevice(
            "stress", space, port, SourceSize + (Rings * Area), new DmaBufIo.Block.QueueLimits(512) { MaxBytes = 2 * Block });
        var file = new BlockDeviceFile(device);
        Random.Shared.NextBytes(device.Store[..SourceSize]);
        MovingExporter[] exporters = [.. Enumerable.Range(0, 2).Select(static i => MovingExporter.Create($"stress{i}", Rings * Area))];
        var options = new TokenOptions { Design = design };
        Ring[] rings = [.. Enumerable.Range(0, Rings).Select(i =>
            new Ring(new RingOptions { Name = $"stress{i}", Entries = 16, BufferSlots = 2, Tokens = options }))];
        int running = Rings;

        // The first ring uses the first buffer, the second both in turn, the third the second.
        Actor[] owners = [.. Enumerable.Range(0, Rings).Select(i => Actor.Start("owner", () =>
        {
            try
            {
                Work(rings[i], i, device, file, exporters);
            }
            finally
            {
                Interlocked.Decrement(ref running);
            }
        }))];
        long resets = 0;
        Actor[] disturbers =
        [
            .. exporters.Select(exporter => Actor.Start("mover", () =>
            {
                while (Volatile.Read(ref running) > 0)
                    exporter.Move();
            })),
            Actor.Start("resetter", () =>
            {
                while (Volatile.Read(ref running) > 0)
                {
                    device.Device.KillMaps();
                    resets++;
                    Thread.Yield();
                }
            }),
        ];
        foreach (Actor owner in owners)
            owner.Join();
        foreach (Actor disturber in disturbers)
            disturber.Join();

        Assert.All(exporters, static e => Assert.True(e.Moves >= Moves));
        Assert.True(resets > 0);
        foreach (Ring ring in rings)
        {
            Assert.Equal((0, ring.Counters.Requests), (ring.InFlight, ring.Counters.Completed));
            Assert.Equal(0, ring.Counters.Failed);
            ring.Dispose();
        }

        Actor.Until(() => device.LiveTokens == 0 && exporters.All(static e => e.Buffer.References == 1), "every token is released");
        foreach (MovingExporter exporter in exporters)
        {
            Assert.Equal((0, 0), (exporter.OldPlaces, exporter.Buffer.Attachments));
            exporter.Buffer.Put();
        }

        Assert.Equal((0, 1), (device.LiveMaps, file.References));
        Assert.Equal((0L, 0L, 0L), (iommu.StaleAccesses, iommu.Faults, iommu.LiveMappings));
    }

    private static void Work(Ring ring, int index, PuppetBlockDevice device, BlockDeviceFile file, MovingExporter[] exporters)
    {
        var random = new Random(index);
        long own = SourceSize + ((long)index * Area);
        for (int round = 0; round < Rounds || exporters.Any(static e => e.Moves < Moves); round++)
        {
            int slot = index switch { 0 => 0, 2 => 1, _ => round & 1 };
            if (ring.TokenAt(slot) is null || random.Next(8) == 0)
                ring.RegisterBuffer(slot, new BufferRegistration { Buffer = exporters[slot].Buffer, File = file });

            // From the source into the buffer, by device; and from the buffer to a place of its own, by device: no byte is copied by CPU.
            long[] sources = new long[Batch];
            for (int i = 0; i < Batch; i++)
            {
                sources[i] = random.Next(SourceSize / Block) * (long)Block;
                Assert.True(ring.TryReadFixed(file, slot, (index * Area) + (i * Block), Block, sources[i], (ulong)i));
            }

            End(ring, Batch, replaceSlot: random.Next(4) == 0 ? slot : -1, exporters, file);
            Assert.True(ring.TryWriteFixed(file, slot, index * Area, Area, own, 99));
            End(ring, 1, replaceSlot: -1, exporters, file);
            for (int i = 0; i < Batch; i++)
            {
                if (!device.Store.Slice((int)own + (i * Block), Block).SequenceEqual(device.Store.Slice((int)sources[i], Block)))
                    Assert.Fail($"ring {index}, round {round}, block {i}: the bytes are not those of offset {sources[i]}");
            }
        }
    }

    private static void End(Ring ring, int count, int replaceSlot, MovingExporter[] exporters, BlockDeviceFile file)
    {
        ring.Submit(TestContext.Current.CancellationToken);
        if (replaceSlot >= 0)
            ring.RegisterBuffer(replaceSlot, new BufferRegistration { Buffer = exporters[replaceSlot].Buffer, File = file });
        var completions = new RingCompletion[count];
        int reaped = 0;
        while (reaped < count)
            reaped += ring.Reap(completions.AsSpan(reaped), 1, TestContext.Current.CancellationToken);
        foreach (RingCompletion completion in completions)
            Assert.Equal((Errno.Ok, count == 1 ? Area : Block), (completion.Status, completion.Bytes));
    }
}
