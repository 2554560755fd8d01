using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.NvmePci;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Pci;
using DmaBufIo.Pci.Model;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.ExtentFile.Tests;

public sealed class ExtentFileTests : IDisposable
{
    private readonly ModelIommu _iommu = new();
    private readonly List<IPciBinding> _bindings = [];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        foreach (IPciBinding binding in _bindings)
            binding.Dispose();
        Assert.True(_iommu.Faults == 0 && _iommu.StaleAccesses == 0 && _iommu.LeakedMappings == 0, string.Join(Environment.NewLine, _iommu.Reports));
        _iommu.Dispose();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_file_holds_what_a_byte_array_holds_and_others_are_left_alone(int devices)
    {
        BlockDevice[] disks = Disks(devices);
        const int Size = (300 << 10) + 77;
        const int Room = ((Size + 511) / 512) * 512;
        IoFile other = Open("other", disks, 64 << 10);
        IoFile file = Open("data", disks, Size);
        IoFile after = Open("after", disks, 64 << 10);
        Assert.Equal(Size, file.Size);
        byte[] model = new byte[Room];
        var random = new Random(devices);
        MovingExporter exporter = MovingExporter.Create("buffer", 1 << 20);
        using (var ring = new Ring(new RingOptions { Name = "extent", Entries = 8 }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = exporter.Buffer, File = other });
            random.NextBytes(exporter.Region.Span(0, 64 << 10));
            byte[] others = exporter.Region.Span(0, 64 << 10).ToArray();
            Assert.Equal(new RingCompletion(1, Errno.Ok, 64 << 10), Do(ring, () => ring.TryWriteFixed(other, 0, 0, 64 << 10, 0, 1)));
            ring.RegisterBuffer(2, new BufferRegistration { Buffer = exporter.Buffer, File = after });
            Assert.Equal(new RingCompletion(1, Errno.Ok, 64 << 10), Do(ring, () => ring.TryWriteFixed(after, 2, 0, 64 << 10, 0, 1)));
            ring.RegisterBuffer(1, new BufferRegistration { Buffer = exporter.Buffer, File = file });
            for (int i = 0; i < 300; i++)
            {
                int offset = random.Next(Room / 512) * 512;
                int length = Math.Min((1 + random.Next(300)) * 512, Room - offset);
                int memory = random.Next(200) * 512;
                if (i % 20 == 0)
                    exporter.Move(Token);
                if (random.Next(2) == 0)
                {
                    random.NextBytes(exporter.Region.Span(memory, length));
                    exporter.Region.Span(memory, length).CopyTo(model.AsSpan(offset));
                    Assert.Equal(new RingCompletion(1, Errno.Ok, length), Do(ring, () => ring.TryWriteFixed(file, 1, memory, length, offset, 1)));
                }
                else
                {
                    Assert.Equal(new RingCompletion(1, Errno.Ok, length), Do(ring, () => ring.TryReadFixed(file, 1, memory, length, offset, 1)));
                    Assert.True(exporter.Region.Span(memory, length).SequenceEqual(model.AsSpan(offset, length)));
                }
            }

            Assert.Equal(new RingCompletion(1, Errno.Ok, 0), Do(ring, () => ring.TryFlush(file, 1)));
            Assert.Equal(new RingCompletion(1, Errno.Ok, 64 << 10), Do(ring, () => ring.TryReadFixed(other, 0, 0, 64 << 10, 0, 1)));
            Assert.True(exporter.Region.Span(0, 64 << 10).SequenceEqual(others));
            exporter.Region.Span(0, 64 << 10).Clear();
            Assert.Equal(new RingCompletion(1, Errno.Ok, 64 << 10), Do(ring, () => ring.TryReadFixed(after, 2, 0, 64 << 10, 0, 1)));
            Assert.True(exporter.Region.Span(0, 64 << 10).SequenceEqual(others));

            // The end, as on a device: short reads and writes, nothing beyond.
            long end = (Size + 4095) & -4096;
            Assert.Equal(new RingCompletion(1, Errno.Ok, 512), Do(ring, () => ring.TryReadFixed(file, 1, 0, 4096, end - 512, 1)));
            Assert.Equal(new RingCompletion(1, Errno.Ok, 0), Do(ring, () => ring.TryReadFixed(file, 1, 0, 4096, end, 1)));
            Assert.Equal(Errno.ENOSPC, Do(ring, () => ring.TryWriteFixed(file, 1, 0, 4096, end, 1)).Status);
            Assert.Equal(Errno.EINVAL, Do(ring, () => ring.TryReadFixed(file, 1, 0, 100, 0, 1)).Status);
            RemovedBuffer[] removed = [ring.RemoveBuffer(0), ring.RemoveBuffer(1), ring.RemoveBuffer(2)];
            ring.Dispose();
            Assert.All(removed, r => Assert.Equal(Errno.Ok, r.WaitReleased(Token)));
        }

        exporter.Buffer.Put();
        file.Put();
        other.Put();
        after.Put();
    }

    [Fact]
    public void The_token_is_the_devices_and_a_composite_only_over_several()
    {
        IoFile one = Open("data", Disks(1), 4096);
        IoFile two = Open("data", Disks(2), 8192);
        MovingExporter exporter = MovingExporter.Create("buffer", 4096);
        foreach (IoFile file in new[] { one, two })
        {
            Tokens.DmaBufToken token = file.OpenToken(exporter.Buffer, DmaDirection.Bidirectional);
            Assert.Same(file, token.Owner);
            token.Release();
            Assert.Equal(Errno.Ok, token.WaitReleased(Token));
            file.Put();
        }

        exporter.Buffer.Put();
    }

    [Fact]
    public void B5_a_file_opened_for_buffered_io_refuses_tokens_and_one_whose_flag_is_cleared_refuses_requests()
    {
        BlockDevice[] disks = Disks(1);
        Open("data", disks, 65536).Put();
        IoFile buffered = new ExtentFileFactory().Open(Expression("data", null, 1), disks, OpenFlags.None);
        MovingExporter exporter = MovingExporter.Create("buffer", 4096);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => buffered.OpenToken(exporter.Buffer, DmaDirection.ToDevice));
        Assert.Equal((Errno.EINVAL, "B5"), (refused.Errno, refused.Rule));
        buffered.SetDirect(true);
        using (var ring = new Ring(new RingOptions { Name = "extent" }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = exporter.Buffer, File = buffered });
            Assert.Equal(Errno.Ok, Do(ring, () => ring.TryReadFixed(buffered, 0, 0, 4096, 0, 1)).Status);
            buffered.SetDirect(false);
            Assert.Equal(Errno.EINVAL, Do(ring, () => ring.TryReadFixed(buffered, 0, 0, 4096, 0, 1)).Status);
            RemovedBuffer removed = ring.RemoveBuffer(0);
            ring.Dispose();
            Assert.Equal(Errno.Ok, removed.WaitReleased(Token));
        }

        exporter.Buffer.Put();
        buffered.Put();
    }

    [Fact]
    public void A_file_keeps_its_place_and_its_contents_until_it_is_made_anew_with_another_size()
    {
        BlockDevice[] disks = Disks(2);
        Open("data", disks, 100_000).Put();
        Open("data", disks, 100_000).Put();
        IoFile found = new ExtentFileFactory().Open(Expression("data", null, 2), disks, OpenFlags.Direct | OpenFlags.ReadOnly);
        Assert.Equal(100_000, found.Size);
        found.Put();
        Open("data", disks, 200_000).Put();
        Assert.Equal(Errno.ENOSPC, Assert.Throws<DmaBufIoException>(() => Open("more", disks, 4 << 20)).Errno);
        Assert.Equal(Errno.ENOENT, Assert.Throws<DmaBufIoException>(() => new ExtentFileFactory().Open(Expression("absent", null, 2), disks, OpenFlags.Direct)).Errno);
    }

    [Fact]
    public void A_file_that_is_open_is_not_made_anew_with_another_size()
    {
        BlockDevice[] disks = Disks(2);
        IoFile file = Open("data", disks, 100_000);
        IoFile again = Open("data", disks, 100_000);
        Open("other", disks, 50_000).Put();
        foreach (IoFile open in new[] { file, again })
        {
            DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => Open("data", disks, 200_000));
            Assert.Equal(Errno.EBUSY, refused.Errno);
            Assert.Contains("the file is open; it has 100000 bytes", refused.Message, StringComparison.Ordinal);
            Open("other", disks, 60_000).Put();
            open.Put();
        }

        IoFile larger = Open("data", disks, 200_000);
        Assert.Equal(200_000, larger.Size);
        larger.Put();
    }

    [Fact]
    public void Devices_of_a_volume_are_named_all_and_in_their_order()
    {
        BlockDevice[] disks = Disks(3);
        Open("data", disks[..2], 100_000).Put();
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => Open("data", [disks[1], disks[0]], 100_000)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => Open("data", [disks[0]], 100_000)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => Open("more", [disks[0], disks[2]], 100_000)).Errno);
    }

    [Fact]
    public void A_volume_whose_map_has_not_reached_all_devices_is_opened_and_mended()
    {
        BlockDevice[] disks = Disks(2);
        byte[] blank = Block(disks[1], ExtentMap.PlaceOf(1), null);
        Open("data", disks, 100_000).Put();
        byte[] first = Block(disks[1], ExtentMap.PlaceOf(1), null);
        Assert.NotNull(ExtentMap.Read(first, out _));

        // A crash while the volume was made: the second device has nothing yet.
        Block(disks[1], ExtentMap.PlaceOf(1), blank);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => new ExtentFileFactory().Open(Expression("data", null, 2), disks, OpenFlags.Direct)).Errno);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => Open("another", disks, 4096)).Errno);
        Open("data", disks, 100_000).Put();
        Assert.Equal(first, Block(disks[1], ExtentMap.PlaceOf(1), null));

        // A crash while a file was added: it has the map before. Nothing of a volume that is in use may be missing.
        Open("more", disks, 4096).Put();
        byte[] second = Block(disks[1], ExtentMap.PlaceOf(0), null);
        Block(disks[1], ExtentMap.PlaceOf(0), blank);
        Open("more", disks, 4096).Put();
        Assert.Equal(second, Block(disks[1], ExtentMap.PlaceOf(0), null));
        Block(disks[1], ExtentMap.PlaceOf(0), blank);
        Block(disks[1], ExtentMap.PlaceOf(1), blank);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => Open("more", disks, 4096)).Errno);
    }

    [Fact]
    public void A_device_whose_map_is_more_than_one_behind_is_an_old_image_and_is_refused()
    {
        BlockDevice[] disks = Disks(2);
        Open("data", disks, 100_000).Put();
        byte[][] image = [.. new[] { 0UL, 1UL }.Select(p => Block(disks[1], ExtentMap.PlaceOf(p), null))];
        Open("more", disks, 4096).Put();
        Open("again", disks, 4096).Put();
        for (ulong place = 0; place < 2; place++)
            Block(disks[1], ExtentMap.PlaceOf(place), image[place]);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => new ExtentFileFactory().Open(Expression("data", null, 2), disks, OpenFlags.Direct));
        Assert.Equal(Errno.EINVAL, refused.Errno);
        Assert.Contains("m1 (nvme1n1) has map 1 of the volume, and the newest is 3", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_device_that_was_cut_short_is_refused_when_the_file_is_opened()
    {
        BlockDevice[] disks = Disks(1);
        Open("data", disks, 500_000).Put();
        BlockDevice small = Disk(256 << 10);
        Block(small, ExtentMap.PlaceOf(1), Block(disks[0], ExtentMap.PlaceOf(1), null));
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => new ExtentFileFactory().Open(Expression("data", null, 1), [small], OpenFlags.Direct | OpenFlags.ReadOnly));
        Assert.Equal(Errno.EINVAL, refused.Errno);
        Assert.Contains("which has 262144", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_not_there_is_refused_with_what_helps()
    {
        BlockDevice[] disks = Disks(2);
        Open("data", disks, 100_000).Put();
        string reading = Assert.Throws<DmaBufIoException>(() => new ExtentFileFactory().Open(Expression("nope", null, 2), disks, OpenFlags.Direct | OpenFlags.ReadOnly)).Message;
        Assert.Contains("Name a file that is there: data", reading, StringComparison.Ordinal);
        Assert.DoesNotContain("option size", reading, StringComparison.Ordinal);
        Assert.Contains("the volume has 2 devices, and 1 are given", Assert.Throws<DmaBufIoException>(() => new ExtentFileFactory().Open(Expression("data", null, 1), disks[..1], OpenFlags.Direct)).Message, StringComparison.Ordinal);
        Assert.DoesNotContain("remove", Assert.Throws<DmaBufIoException>(() => Open("more", disks, 4 << 20)).Message, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public void Whoever_waits_for_a_map_that_is_being_read_shows_in_snapshots()
    {
        BlockDevice[] disks = Disks(1);
        Open("data", disks, 4096).Put();
        var held = (Sync.SleepingMutex)typeof(ExtentFileFactory).GetField("s_changing", System.Reflection.BindingFlags.NonPublic | System.Reflection.BindingFlags.Static)!.GetValue(null)!;
        Assert.Equal(Errno.Ok, held.Lock(Token));
        var opening = new Thread(() => new ExtentFileFactory().Open(Expression("data", null, 1), disks, OpenFlags.Direct).Put());
        opening.Start();
        bool isSeen = SpinWait.SpinUntil(static () => Diagnostics.DmaBufIoDiagnostics.Snapshot().Waits.Any(static w => w.WaitsFor.Contains("maps of files in extents", StringComparison.Ordinal)), TimeSpan.FromSeconds(20));
        held.Unlock();
        opening.Join();
        Assert.True(isSeen);
    }

    /// <summary>What lies on a device where a map may; first writes it when there is something to write.</summary>
    private static byte[] Block(BlockDevice disk, long place, byte[]? contents)
    {
        MovingExporter exporter = MovingExporter.Create("block", ExtentMap.Size);
        var file = new BlockDeviceFile(disk);
        using (var ring = new Ring(new RingOptions { Name = "block", Entries = 2 }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = exporter.Buffer, File = file });
            contents?.CopyTo(exporter.Region.Span(0, ExtentMap.Size));
            RingCompletion done = Do(ring, () => contents is null ? ring.TryReadFixed(file, 0, 0, ExtentMap.Size, place, 1) : ring.TryWriteFixed(file, 0, 0, ExtentMap.Size, place, 1));
            Assert.Equal(new RingCompletion(1, Errno.Ok, ExtentMap.Size), done);
            Assert.Equal(Errno.Ok, ring.RemoveBuffer(0).WaitReleased(Token));
        }

        byte[] read = exporter.Region.Span(0, ExtentMap.Size).ToArray();
        exporter.Buffer.Put();
        file.Put();
        return read;
    }

    private static IoFile Open(string name, BlockDevice[] disks, long size) => new ExtentFileFactory().Open(Expression(name, size, disks.Length), disks, OpenFlags.Direct);

    private static DeviceExpression Expression(string name, long? size, int members)
    {
        var options = new Dictionary<string, DeviceOption>();
        if (size is not null)
            options["size"] = new DeviceOption($"{size}", 0, 0);
        return new DeviceExpression("extent", name, options, [.. Enumerable.Range(0, members).Select(static i => new DeviceExpression("nvme", $"m{i}", new Dictionary<string, DeviceOption>(), [], "test", 0))], "test", 0);
    }

    private static RingCompletion Do(Ring ring, Func<bool> prepare)
    {
        Assert.True(prepare());
        ring.Submit(Token);
        var completions = new RingCompletion[1];
        Assert.Equal(1, ring.Reap(completions, 1, Token));
        return completions[0];
    }

    private BlockDevice[] Disks(int count) => [.. Enumerable.Range(0, count).Select(_ => Disk(1 << 20))];

    private BlockDevice Disk(long size)
    {
        var model = new NvmeControllerModel(new NvmeModelOptions { Name = $"disk{_bindings.Count}", SizeBytes = size, OwnThread = false }, _iommu);
        IPciBinding binding = new NvmePciDriver().Probe(model, $"nvme{_bindings.Count}");
        _bindings.Add(binding);
        return binding.BlockDevices[0];
    }
}
