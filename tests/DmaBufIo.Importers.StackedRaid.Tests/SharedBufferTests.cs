using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.ExtentFile;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>One buffer registered with many files: devices, sets over them, files on them.</summary>
public sealed class SharedBufferTests
{
    private const long DiskSize = 1 << 20;
    private const int BufferSize = 256 << 10;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void T17_files_on_the_same_devices_share_one_mapping_per_device_and_generation_and_the_devices_move_every_byte()
    {
        SetRig.With(static rig =>
        {
            BlockDevice[] disks = rig.Disks(2, DiskSize);
            IoFile[] files = Files(rig, disks);
            MovingExporter exporter = MovingExporter.Create("shared", BufferSize);
            using (var ring = new Ring(new RingOptions { Name = "shared", Entries = 16 }))
            {
                Assert.Equal(5, Register(ring, files, exporter).Length);
                Assert.Equal(2, exporter.Buffer.Attachments);
                for (int generation = 0; generation < 3; generation++)
                {
                    IommuCounters[] before = [rig.Iommu.CountersOf("disk0"), rig.Iommu.CountersOf("disk1")];
                    long copied = Counters.BytesCopied.Value;
                    long bytes = 0;
                    int commands = 0;
                    for (int i = 0; i < files.Length; i++)
                    {
                        // 16 KiB: one command on a single device, and one for each of two chunks on the stripes.
                        Assert.True(ring.TryReadFixed(files[i], i, 0, 16384, 0, 1));
                        Assert.Equal(new RingCompletion(1, Errno.Ok, 16384), One(ring));
                        bytes += 16384;
                        commands += i == 2 ? 2 : 1;
                    }

                    IommuCounters[] done = [rig.Iommu.CountersOf("disk0").Since(before[0]), rig.Iommu.CountersOf("disk1").Since(before[1])];
                    Assert.Equal([1L, 1L], done.Select(static d => d.Maps));

                    // Nothing else was mapped, so the devices wrote to the buffer and to their completion queues: every byte of data, and 16 per command.
                    Assert.Equal(bytes + (16 * commands), done.Sum(static d => d.BytesToMemory));
                    Assert.Equal(0, Counters.BytesCopied.Value - copied);
                    exporter.Move(Token);
                }

                Release(ring, files.Length);
            }

            Close(files, exporter);
        });
    }

    [Fact]
    public void I5_a_file_on_one_set_carries_the_sets_map_and_all_copies_get_what_is_written()
    {
        SetRig.With(static rig =>
        {
            BlockDevice[] disks = rig.Disks(2, DiskSize);
            var mirror = (Mirror.MirrorSet)rig.Set(new Mirror.Raid1Factory(), null, disks);
            Assert.Equal(Errno.Ok, mirror.WaitInSync(Token));
            IoFile file = new ExtentFileFactory().Open(
                SetRig.Expression("extent", "data", 1) with { Options = new Dictionary<string, DeviceOption> { ["size"] = new("256K", 0, 0) } }, [mirror], OpenFlags.Direct);
            MovingExporter exporter = MovingExporter.Create("shared", BufferSize);
            using (var ring = new Ring(new RingOptions { Name = "shared", Entries = 16 }))
            {
                Register(ring, [file], exporter);
                long[] before = [rig.BytesWritten(0), rig.BytesWritten(1)];
                Assert.True(ring.TryWriteFixed(file, 0, 0, BufferSize, 0, 1));
                Assert.Equal(new RingCompletion(1, Errno.Ok, BufferSize), One(ring));
                for (int i = 0; i < 2; i++)
                    Assert.True(rig.BytesWritten(i) - before[i] >= BufferSize, $"copy {i} got {rig.BytesWritten(i) - before[i]} bytes");
                Assert.All(mirror.Members, static m => Assert.Equal("InSync", m.State));
                Release(ring, 1);
            }

            Close([file], exporter);
        });
    }

    [Fact]
    public void T17_an_invalidation_kills_the_maps_of_all_files_before_it_waits_for_any_of_them()
    {
        using var rig = new PuppetRig(2);
        IoFile[] files = [.. rig.Members.Select(static m => new BlockDeviceFile(m))];
        MovingExporter exporter = MovingExporter.Create("shared", BufferSize);
        using (var ring = new Ring(new RingOptions { Name = "shared", Entries = 16 }))
        {
            Register(ring, files, exporter);
            for (int i = 0; i < 2; i++)
            {
                rig.Members[i].Hold = true;
                Assert.True(ring.TryReadFixed(files[i], i, 0, 4096, 0, (ulong)i));
            }

            ring.Submit(Token);
            Assert.Equal([1, 1], rig.Members.Select(static m => m.Held));
            var mover = new Thread(() => exporter.Move(CancellationToken.None));
            mover.Start();
            for (int i = 0; i < 2; i++)
            {
                while (ring.TokenAt(i)!.LiveGeneration is not null)
                    Thread.Yield();
            }

            Assert.Equal(0, exporter.Moves);
            rig.Members[0].Finish();
            Assert.Equal((0L, 1), (exporter.Moves, rig.Members[1].Held));
            rig.Members[1].Finish();
            mover.Join();
            Assert.Equal(1, exporter.Moves);
            var completions = new RingCompletion[2];
            for (int left = 2; left > 0;)
                left -= ring.Reap(completions, 1, Token);
            Release(ring, 2);
        }

        Close(files, exporter);
    }

    [Fact]
    public void R6_T17_registrations_come_and_go_while_requests_run_and_the_buffer_moves()
    {
        SetRig.With(static rig =>
        {
            BlockDevice[] disks = rig.Disks(2, DiskSize);
            IoFile[] files = Files(rig, disks);
            MovingExporter exporter = MovingExporter.Create("shared", BufferSize);
            bool stop = false;
            var mover = new Thread(() =>
            {
                while (!Volatile.Read(ref stop))
                    exporter.Move(CancellationToken.None);
            });
            mover.Start();
            var failures = new List<Exception>();
            Thread[] workers = [.. Enumerable.Range(0, 2).Select(worker => new Thread(() =>
            {
                try
                {
                    ComeAndGo(files, exporter, worker);
                }
                catch (Exception e)
                {
                    lock (failures)
                        failures.Add(e);
                }
            }))];
            foreach (Thread worker in workers)
                worker.Start();
            foreach (Thread worker in workers)
                worker.Join();
            Volatile.Write(ref stop, true);
            mover.Join();
            Assert.Empty(failures);
            Assert.True(exporter.Moves > 10, $"the buffer moved {exporter.Moves} times only");
            Close(files, exporter);
        });
    }

    /// <summary>Two devices, stripes and a row over them, a file in extents on them.</summary>
    private static IoFile[] Files(SetRig rig, BlockDevice[] disks) =>
    [
        new BlockDeviceFile(disks[0]),
        new BlockDeviceFile(disks[1]),
        new BlockDeviceFile(rig.Set(new Raid0Factory(), "8K", disks)),
        new BlockDeviceFile(rig.Set(new LinearFactory(), null, disks)),
        new ExtentFileFactory().Open(
            SetRig.Expression("extent", "data", 2) with { Options = new Dictionary<string, DeviceOption> { ["size"] = new("256K", 0, 0) } }, disks, OpenFlags.Direct),
    ];

    private static Tokens.DmaBufToken[] Register(Ring ring, IoFile[] files, MovingExporter exporter)
    {
        for (int i = 0; i < files.Length; i++)
            ring.RegisterBuffer(i, new BufferRegistration { Buffer = exporter.Buffer, File = files[i] });
        return [.. Enumerable.Range(0, files.Length).Select(i => ring.TokenAt(i)!)];
    }

    private static void ComeAndGo(IoFile[] files, MovingExporter exporter, int worker)
    {
        var random = new Random(worker);
        var registered = new bool[files.Length];
        var removed = new List<RemovedBuffer>();
        var completions = new RingCompletion[16];
        ulong next = 0;
        using var ring = new Ring(new RingOptions { Name = $"worker {worker}", Entries = 16 });
        for (int round = 0; round < 600; round++)
        {
            int prepared = 0;
            for (int i = 0; i < 8; i++)
            {
                int slot = random.Next(files.Length);
                if (!registered[slot])
                {
                    ring.RegisterBuffer(slot, new BufferRegistration { Buffer = exporter.Buffer, File = files[slot] });
                    registered[slot] = true;
                }

                long at = random.Next(BufferSize / 4096) * 4096L;
                Assert.True(ring.TryReadFixed(files[slot], slot, at, 4096, random.Next(16) * 4096L, next++));
                prepared++;
            }

            ring.Submit(CancellationToken.None);

            // With its requests under way: they end as if nothing were.
            int gone = random.Next(files.Length);
            if (registered[gone])
            {
                removed.Add(ring.RemoveBuffer(gone));
                registered[gone] = false;
            }

            while (prepared > 0)
            {
                int count = ring.Reap(completions, 1, CancellationToken.None);
                Assert.All(completions[..count], static c => Assert.Equal((Errno.Ok, 4096L), (c.Status, c.Bytes)));
                prepared -= count;
            }
        }

        for (int slot = 0; slot < files.Length; slot++)
        {
            if (registered[slot])
                removed.Add(ring.RemoveBuffer(slot));
        }

        foreach (RemovedBuffer buffer in removed)
            Assert.Equal(Errno.Ok, buffer.WaitReleased(CancellationToken.None));
    }

    private static RingCompletion One(Ring ring)
    {
        ring.Submit(Token);
        var completions = new RingCompletion[1];
        Assert.Equal(1, ring.Reap(completions, 1, Token));
        return completions[0];
    }

    private static void Release(Ring ring, int slots)
    {
        for (int i = 0; i < slots; i++)
            Assert.Equal(Errno.Ok, ring.RemoveBuffer(i).WaitReleased(Token));
    }

    private static void Close(IoFile[] files, MovingExporter exporter)
    {
        Assert.Equal((1, 0, 0), (exporter.Buffer.References, exporter.Buffer.Attachments, exporter.OldPlaces));
        exporter.Buffer.Put();
        foreach (IoFile file in files)
        {
            file.Put();
            Assert.True(file.IsClosed);
        }
    }
}
