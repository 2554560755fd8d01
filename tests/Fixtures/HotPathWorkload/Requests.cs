using System.Runtime.CompilerServices;
using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.ExtentFile;
using DmaBufIo.Importers.NvmePci;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Iov;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Pci.Model;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>A ring over a file over modelled controllers that work inline: requests of every kind, on one thread.</summary>
internal sealed class Requests : IDisposable
{
    internal const int Kinds = 10;
    private const int DeviceSize = 4 << 20;
    private const int Entries = 64;
    private const int BufferSize = 1 << 20;
    private readonly ModelIommu _iommu = new(new ModelIommuOptions());
    private readonly List<IDisposable> _owned = [];
    private readonly MovingExporter _exporter = MovingExporter.Create("b0", BufferSize);
    private readonly IoFile _file;
    private readonly long _end;
    private readonly Ring _ring;
    private readonly RingCompletion[] _completions = new RingCompletion[Entries];
    private readonly ReadOnlyMemory<BufferRange> _ranges = new BufferRange[] { new(512, 512), new(8192, 1024), new(65536, 8192) };

    internal Requests(FileKind kind = FileKind.Device)
    {
        _file = kind switch
        {
            FileKind.Device => new BlockDeviceFile(Disk()),
            FileKind.Stripes => new BlockDeviceFile(new Raid0Factory().Create(Expression("raid0", "4K", 3), [Disk(), Disk(), new LinearFactory().Create(Expression("linear", null, 2), [Disk(), Disk()])])),
            FileKind.Mirror => new BlockDeviceFile(Own(new Raid1Factory().Create(Expression("raid1", null, 2), [Disk(), Disk()]))),
            _ => new ExtentFileFactory().Open(Expression("extent", "data", 2) with { Options = new Dictionary<string, DeviceOption> { ["size"] = new($"{DeviceSize}", 0, 0) } }, [Disk(), Disk()], OpenFlags.Direct),
        };
        _end = _file.Size;
        _ring = new Ring(new RingOptions { Name = $"workload {kind}", Entries = Entries, Bios = 4 * Entries });
        _ring.RegisterBuffer(0, new BufferRegistration { Buffer = _exporter.Buffer, File = _file });
    }

    /// <summary>What the requests go to.</summary>
    internal enum FileKind
    {
        /// <summary>A namespace.</summary>
        Device,

        /// <summary>RAID 0 with a linear set in it.</summary>
        Stripes,

        /// <summary>RAID 1.</summary>
        Mirror,

        /// <summary>A file in extents on two devices.</summary>
        Extents,
    }

    /// <summary>Runs requests of all kinds in turn and checks each completion.</summary>
    /// <param name="count">How many.</param>
    /// <param name="depth">In flight at most.</param>
    internal void Run(int count, int depth = Entries)
    {
        int prepared = 0;
        int ended = 0;
        while (ended < count)
        {
            prepared = Fill(prepared, Math.Min(count, ended + depth));
            _ring.Submit();
            ended += Collect();
        }
    }

    /// <summary>Moves the buffer, so that the map is killed and the next request makes a new one.</summary>
    internal void Move() => _exporter.Move();

    public void Dispose()
    {
        _ring.Dispose();
        _file.Put();
        for (int i = _owned.Count - 1; i >= 0; i--)
            _owned[i].Dispose();
        _exporter.Buffer.Put();
        _iommu.Dispose();
    }

    private static DeviceExpression Expression(string word, string? text, int members) =>
        new(word, text, new Dictionary<string, DeviceOption>(), [.. Enumerable.Repeat(new DeviceExpression("nvme", "m", new Dictionary<string, DeviceOption>(), [], "workload", 0), members)], "workload", 0);

    private BlockDevice Disk()
    {
        // Small limits, so that requests are split, wait for tags, and are issued in parts.
        var model = new NvmeControllerModel(new NvmeModelOptions { Name = $"disk{_owned.Count}", SizeBytes = DeviceSize, OwnThread = false, Mdts = 3 }, _iommu);
        NvmeBinding binding = new NvmePciDriver(new NvmePciOptions { QueueDepth = 24 }).Probe(new DevicePort(model), $"nvme{_owned.Count}");
        _owned.Add(binding);
        return binding.BlockDevices[0];
    }

    private BlockDevice Own(BlockDevice device)
    {
        _owned.Add((IDisposable)device);
        return device;
    }

    // Methods of their own, entered often: a loop that runs for long is compiled for its own sake, and such code is not what is looked at.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private int Fill(int prepared, int end)
    {
        while (prepared < end && Prepare(KindOf(prepared), (ulong)prepared))
            prepared++;
        return prepared;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private int Collect()
    {
        int count = _ring.Reap(_completions);
        if (count == 0)
            count = _ring.Reap(_completions, 1);
        for (int i = 0; i < count; i++)
        {
            RingCompletion completion = _completions[i];
            if (completion.Status != Errno.Ok || completion.Bytes != BytesOf(KindOf((long)completion.UserData)))
                throw new InvalidOperationException($"request {completion.UserData}: {completion.Status}, {completion.Bytes} bytes");
        }

        return count;
    }

    // One page, two pages, a list, a split into several commands, vectors, a flush, and two that cross the device's end.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool Prepare(int kind, ulong userData) => kind switch
    {
        0 => _ring.TryReadFixed(_file, 0, 4096, 4096, 8192, userData),
        1 => _ring.TryWriteFixed(_file, 0, 12288, 4096, 0, userData),
        2 => _ring.TryReadFixed(_file, 0, 516, 8192, 0, userData),
        3 => _ring.TryWriteFixed(_file, 0, 1024, 28672, 512, userData),
        4 => _ring.TryReadFixed(_file, 0, 0, 131072, 0, userData),
        5 => _ring.TryReadFixedVector(_file, 0, _ranges, 4096, userData),
        6 => _ring.TryWriteFixedVector(_file, 0, _ranges, 4096, userData),
        7 => _ring.TryFlush(_file, userData),
        8 => _ring.TryReadFixed(_file, 0, 8192, 4096, _end - 2048, userData),
        _ => _ring.TryWriteFixed(_file, 0, 8192, 4096, _end - 2048, userData),
    };

    // Some of a kind after each other: the ring takes equal ones together.
    private static int KindOf(long request) => (int)((request >> 2) % Kinds);

    private static long BytesOf(int kind) => kind switch
    {
        0 or 1 => 4096,
        2 => 8192,
        3 => 28672,
        4 => 131072,
        5 or 6 => 512 + 1024 + 8192,
        7 => 0,
        _ => 2048,
    };
}
