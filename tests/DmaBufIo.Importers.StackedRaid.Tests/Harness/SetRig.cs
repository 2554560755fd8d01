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

namespace DmaBufIo.Importers.StackedRaid.Tests.Harness;

/// <summary>
/// NVMe controllers in memory behind a strict IOMMU, sets over them, rings with buffers that move. What a test opens is closed by the rig, which then looks whether everything was
/// given back and no access was a fault or stale.
/// </summary>
internal sealed class SetRig : IDisposable
{
    private readonly List<NvmeControllerModel> _models = [];
    private readonly List<IDisposable> _owned = [];

    internal SetRig(ModelIommuOptions? iommu = null) => Iommu = new ModelIommu(iommu);

    internal ModelIommu Iommu { get; }

    /// <summary>The controllers, in the order of their making.</summary>
    internal IReadOnlyList<NvmeControllerModel> Models => _models;

    /// <summary>Bytes of data that a controller has written to memory for reads.</summary>
    internal long BytesRead(int disk) => Iommu.CountersOf(_models[disk].Name).BytesToMemory;

    /// <summary>Bytes of data that a controller has read from memory for writes, and for what describes them.</summary>
    internal long BytesWritten(int disk) => Iommu.CountersOf(_models[disk].Name).BytesFromMemory;

    /// <summary>The bindings of the controllers, in the order of their making.</summary>
    internal List<IPciBinding> Bindings { get; } = [];

    /// <summary>A controller with one namespace in memory.</summary>
    internal BlockDevice Disk(long size, NvmeModelOptions? options = null)
    {
        return Disk((options ?? new NvmeModelOptions { OwnThread = false }) with { SizeBytes = size });
    }

    /// <summary>A controller as its options say; it gets a name of its own.</summary>
    internal BlockDevice Disk(NvmeModelOptions options)
    {
        var model = new NvmeControllerModel(options with { Name = $"disk{_models.Count}" }, Iommu);
        _models.Add(model);
        IPciBinding binding = new NvmePciDriver().Probe(model, $"nvme{Bindings.Count}");
        lock (Bindings)
            Bindings.Add(binding);
        return binding.BlockDevices[0];
    }

    /// <summary>The binding of a disk's controller.</summary>
    internal IPciBinding BindingOf(BlockDevice disk)
    {
        lock (Bindings)
            return Bindings.Single(b => ReferenceEquals(b.BlockDevices[0], disk));
    }

    internal BlockDevice[] Disks(int count, long size) => [.. Enumerable.Range(0, count).Select(_ => Disk(size))];

    /// <summary>A set from a word with its text and options.</summary>
    internal BlockDevice Set(IBlockDeviceFactory factory, string? text, params BlockDevice[] members)
    {
        BlockDevice set = factory.Create(Expression(factory.Word, text, members.Length), members);
        if (set is IDisposable owned)
            _owned.Add(owned);
        return set;
    }

    internal static DeviceExpression Expression(string word, string? text, int members) => new(
        word, text, new Dictionary<string, DeviceOption>(), [.. Enumerable.Range(0, members).Select(static i => new DeviceExpression("nvme", $"m{i}", new Dictionary<string, DeviceOption>(), [], "test", 0))], "test", 0);

    /// <summary>A ring with a buffer registered in slot 0.</summary>
    internal SetRing Open(BlockDevice device, long buffer = 1 << 20, int entries = 16) => new(device, buffer, entries);

    public void Dispose()
    {
        for (int i = _owned.Count - 1; i >= 0; i--)
            _owned[i].Dispose();
        foreach (IPciBinding binding in Bindings)
            binding.Dispose();
        Iommu.Dispose();
    }

    /// <summary>Closes everything and looks what is left.</summary>
    internal void Finish()
    {
        Dispose();
        foreach (NvmeControllerModel model in _models)
            Assert.Empty(model.Violations);
        Assert.True(Iommu.Faults == 0 && Iommu.StaleAccesses == 0, string.Join(Environment.NewLine, Iommu.Reports));
        Assert.True(Iommu.LeakedMappings == 0, string.Join(Environment.NewLine, Iommu.LeakedMappingDescriptions));
    }

    internal static void With(Action<SetRig> test)
    {
        using var rig = new SetRig();
        test(rig);
        rig.Finish();
    }
}

/// <summary>A ring on one device, with one moving buffer.</summary>
internal sealed class SetRing : IDisposable
{
    private readonly RingCompletion[] _completions = new RingCompletion[64];

    internal SetRing(BlockDevice device, long buffer, int entries)
    {
        File = new BlockDeviceFile(device);
        Exporter = MovingExporter.Create("buffer", buffer);
        Ring = new Ring(new RingOptions { Name = "test", Entries = entries });
        Ring.RegisterBuffer(0, new BufferRegistration { Buffer = Exporter.Buffer, File = File });
    }

    internal BlockDeviceFile File { get; }

    internal MovingExporter Exporter { get; }

    internal Ring Ring { get; }

    internal Span<byte> Memory(long offset, int length) => Exporter.Region.Span(offset, length);

    /// <summary>Does everything that was prepared, and answers in the order of the user data.</summary>
    internal RingCompletion[] Run()
    {
        int count = Ring.Submit(TestContext.Current.CancellationToken);
        var all = new List<RingCompletion>();
        while (all.Count < count)
        {
            int reaped = Ring.Reap(_completions, 1, TestContext.Current.CancellationToken);
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
            all.AddRange(_completions.AsSpan(0, reaped));
        }

        return [.. all.OrderBy(static c => c.UserData)];
    }

    internal RingCompletion Read(long memory, long length, long offset)
    {
        Assert.True(Ring.TryReadFixed(File, 0, memory, length, offset, 1));
        return Assert.Single(Run());
    }

    internal RingCompletion Write(long memory, long length, long offset)
    {
        Assert.True(Ring.TryWriteFixed(File, 0, memory, length, offset, 1));
        return Assert.Single(Run());
    }

    internal RingCompletion Flush()
    {
        Assert.True(Ring.TryFlush(File, 1));
        return Assert.Single(Run());
    }

    public void Dispose()
    {
        Tokens.DmaBufToken? token = Ring.TokenAt(0);
        Ring.Dispose();
        Assert.Equal(Errno.Ok, token?.WaitReleased(TestContext.Current.CancellationToken) ?? Errno.Ok);
        Assert.Equal(0, Exporter.OldPlaces);
        Exporter.Buffer.Put();
        File.Put();
        Assert.True(File.IsClosed);
    }
}
