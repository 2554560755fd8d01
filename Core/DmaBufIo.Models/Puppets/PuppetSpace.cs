using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Puppets;

/// <summary>The host's end of a <see cref="PuppetFabric"/>'s device.</summary>
internal sealed class PuppetSpace(PuppetFabric fabric, DmaAddressSpace inner) : DmaAddressSpace
{
    private readonly Lock _lock = new();
    private readonly Dictionary<DeviceRange, DeviceRange> _ranges = new(ReferenceEqualityComparer.Instance);

    public override string Name => Inner.Name;

    public override int Granularity => Inner.Granularity;

    public override bool IsCoherent => Inner.IsCoherent;

    internal DmaAddressSpace Inner { get; } = inner;

    internal IReadOnlyList<PuppetMapping> Mappings
    {
        get
        {
            lock (_lock)
                return [.. _ranges.Keys.Select(Describe)];
        }
    }

    public override DeviceRange Map(in MemoryRange memory, DmaDirection direction, string purpose, long generation = 0)
    {
        fabric.OnMap?.Invoke(new PuppetMapping(Name, purpose, 0, memory, direction));
        DeviceRange made = Inner.Map(memory, direction, purpose, generation);
        var range = new DeviceRange(this, made.Address, memory, direction, purpose, generation);
        lock (_lock)
            _ranges.Add(range, made);
        return range;
    }

    public override void Unmap(DeviceRange range)
    {
        fabric.OnUnmap?.Invoke(Describe(range));
        Inner.Unmap(Take(range));
    }

    public override void Unmap(ReadOnlySpan<DeviceRange> ranges)
    {
        var inner = new DeviceRange[ranges.Length];
        for (int i = 0; i < inner.Length; i++)
        {
            fabric.OnUnmap?.Invoke(Describe(ranges[i]));
            inner[i] = Take(ranges[i]);
        }

        Inner.Unmap(inner);
    }

    public override void SyncForDevice(DeviceRange range, long offset, long length)
    {
        fabric.OnSync?.Invoke(Part(range, offset, length), true);
        Inner.SyncForDevice(Find(range), offset, length);
    }

    public override void SyncForCpu(DeviceRange range, long offset, long length)
    {
        fabric.OnSync?.Invoke(Part(range, offset, length), false);
        Inner.SyncForCpu(Find(range), offset, length);
    }

    internal string? PurposeAt(ulong address)
    {
        lock (_lock)
        {
            foreach (DeviceRange range in _ranges.Keys)
            {
                if (address >= range.Address && address - range.Address < (ulong)range.Length)
                    return range.Purpose;
            }
        }

        return null;
    }

    private PuppetMapping Describe(DeviceRange range) => new(Name, range.Purpose, range.Address, range.Memory, range.Direction);

    private PuppetMapping Part(DeviceRange range, long offset, long length) =>
        new(Name, range.Purpose, range.Address + (ulong)offset, new MemoryRange(range.Memory.Region, range.Memory.Offset + offset, length), range.Direction);

    private DeviceRange Find(DeviceRange range)
    {
        lock (_lock)
            return _ranges.TryGetValue(range, out DeviceRange? inner) ? inner : throw Unknown(range);
    }

    private DeviceRange Take(DeviceRange range)
    {
        lock (_lock)
            return _ranges.Remove(range, out DeviceRange? inner) ? inner : throw Unknown(range);
    }

    private DmaBufIoException Unknown(DeviceRange range) =>
        new(Errno.EINVAL, "Models", Name, $"the range at 0x{range.Address:x} is not mapped here, or no longer", "Unmap each range once, in the space that mapped it", range: $"0x{range.Address:x}+{range.Length}", rule: "T8");
}

/// <summary>The device's end.</summary>
internal sealed class PuppetPort(PuppetFabric fabric, PuppetSpace space, DmaPort inner) : DmaPort
{
    public override string DeviceName => inner.DeviceName;

    public override Errno Read(ulong address, Span<byte> destination)
    {
        Errno status = Begin(address, destination.Length, DmaDirection.ToDevice, out PuppetDma dma);
        return status == Errno.Ok ? End(dma, inner.Read(address, destination)) : status;
    }

    public override Errno Write(ulong address, ReadOnlySpan<byte> source)
    {
        Errno status = Begin(address, source.Length, DmaDirection.FromDevice, out PuppetDma dma);
        return status == Errno.Ok ? End(dma, inner.Write(address, source)) : status;
    }

    public override Errno Transfer(ulong address, long length, DmaDirection direction, IDmaMover mover)
    {
        Errno status = Begin(address, length, direction, out PuppetDma dma);
        return status == Errno.Ok ? End(dma, inner.Transfer(address, length, direction, mover)) : status;
    }

    // What a device keeps open is its queues, not buffers: no string is needed, and their addresses would be passed at every doorbell.
    public override DmaWindow? OpenWindow(ulong address, int length, DmaDirection direction) => inner.OpenWindow(address, length, direction);

    private Errno Begin(ulong address, long length, DmaDirection direction, out PuppetDma dma)
    {
        if (fabric.OnDma is null && fabric.AfterDma is null)
        {
            dma = default;
            return Errno.Ok;
        }

        dma = new PuppetDma(DeviceName, space.PurposeAt(address), address, length, direction);
        return fabric.OnDma?.Invoke(dma) ?? Errno.Ok;
    }

    private Errno End(in PuppetDma dma, Errno status)
    {
        if (dma.Device is not null)
            fabric.AfterDma?.Invoke(dma);
        return status;
    }
}
