using DmaBufIo.Dma;
using DmaBufIo.Memory;
using DmaBufIo.Pci;

namespace DmaBufIo.Importers.NvmePci.Tests.Harness;

/// <summary>A function that passes everything on, counts doorbells, and lies where a test tells it to.</summary>
internal sealed class FaultyFunction(PciFunction inner) : PciFunction
{
    private const long Csts = 0x1C;
    private readonly RecordingSpace _space = new(inner.AddressSpace);
    private readonly Dictionary<long, int> _rung = [];

    /// <summary>Changes what a register reads: offset, true value.</summary>
    internal Func<long, uint, uint>? OnRead { get; set; }

    /// <summary>Swallows writes: offset, value; true drops it.</summary>
    internal Func<long, uint, bool>? OnWrite { get; set; }

    /// <summary>When set, CSTS shows a fatal status until the controller is disabled.</summary>
    internal volatile bool Fatal;

    internal int FunctionResets { get; private set; }

    internal int Disposals { get; private set; }

    /// <summary>Runs after an inline device has worked, for example to falsify what it wrote.</summary>
    internal Action? AfterAdvance { get; set; }

    public override string Name => inner.Name;

    public override PciIdentity Identity => inner.Identity;

    public override DmaAddressSpace AddressSpace => _space;

    /// <summary>When set, how many vectors the function says it has.</summary>
    internal int? Vectors { get; set; }

    public override int InterruptVectors => Vectors ?? inner.InterruptVectors;

    /// <summary>How often the doorbell at an offset was written.</summary>
    internal int Rung(long offset)
    {
        lock (_rung)
            return _rung.GetValueOrDefault(offset);
    }

    public override long BarLength(int bar) => inner.BarLength(bar);

    public override uint Read32(int bar, long offset)
    {
        uint value = inner.Read32(bar, offset);
        if (offset == Csts && Fatal && value != uint.MaxValue)
            value |= 2;
        return OnRead is { } read ? read(offset, value) : value;
    }

    public override void Write32(int bar, long offset, uint value)
    {
        if (offset >= 0x1000)
        {
            lock (_rung)
                _rung[offset] = _rung.GetValueOrDefault(offset) + 1;
        }

        if (OnWrite?.Invoke(offset, value) == true)
            return;
        if (offset == 0x14 && (value & 1) == 0)
            Fatal = false;
        inner.Write32(bar, offset, value);
    }

    public override void SetInterruptHandler(int vector, Action? handler) => inner.SetInterruptHandler(vector, handler);

    public override void Reset()
    {
        FunctionResets++;
        inner.Reset();
    }

    /// <summary>The memory of the latest mapping with that purpose.</summary>
    internal bool TryMemoryOf(string purpose, out MemoryRange memory) => _space.Latest.TryGetValue(purpose, out memory);

    public override void Advance()
    {
        inner.Advance();
        AfterAdvance?.Invoke();
    }

    public override void Dispose()
    {
        Disposals++;
        inner.Dispose();
    }
}

/// <summary>Passes everything on and remembers what was mapped for what.</summary>
internal sealed class RecordingSpace(DmaAddressSpace inner) : DmaAddressSpace
{
    internal Dictionary<string, MemoryRange> Latest { get; } = [];

    public override string Name => inner.Name;

    public override int Granularity => inner.Granularity;

    public override bool IsCoherent => inner.IsCoherent;

    public override DeviceRange Map(in MemoryRange memory, DmaDirection direction, string purpose, long generation = 0)
    {
        lock (Latest)
            Latest[purpose] = memory;
        return inner.Map(memory, direction, purpose, generation);
    }

    public override void Unmap(DeviceRange range) => inner.Unmap(range);

    public override void SyncForDevice(DeviceRange range, long offset, long length) => inner.SyncForDevice(range, offset, length);

    public override void SyncForCpu(DeviceRange range, long offset, long length) => inner.SyncForCpu(range, offset, length);
}
