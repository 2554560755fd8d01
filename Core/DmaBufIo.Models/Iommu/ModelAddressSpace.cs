using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>The host's end of a device's path to memory: checks the arguments, then maps and unmaps under the domain's gate.</summary>
internal sealed class ModelAddressSpace : DmaAddressSpace
{
    public ModelAddressSpace(IommuDomain domain) => Domain = domain;

    public IommuDomain Domain { get; }

    public override string Name => Domain.DeviceName;

    public override int Granularity => (int)PageTable.PageSize;

    public override bool IsCoherent => !Domain.Options.NonCoherent;

    public override DeviceRange Map(in MemoryRange memory, DmaDirection direction, string purpose, long generation = 0)
    {
        Check(memory, direction);
        using (Domain.Gate.EnterAsHost())
        {
            if (Domain.IsRemoved)
                throw Refused(Errno.ENODEV, "the device was removed", "Map for a device that is still there", memory, "T11");
            ulong address = Domain.Establish(memory, direction);
            var range = new DeviceRange(this, address, memory, direction, purpose, generation);
            Domain.Shadow.Begin(range, new MappingRecord(address, memory, direction, purpose, generation));
            Domain.Counters.Maps++;
            return range;
        }
    }

    public override void Unmap(DeviceRange range)
    {
        // The gate is ours already only inside a mover: the DMA that this call would have to wait for is its own caller.
        if (Domain.Gate.IsHeldByCurrentThread)
            throw Refused(
                Errno.EDEADLK, "unmap was called while this thread moves data of the device", "Unmap from another context", range.Memory);
        using (Domain.Gate.EnterAsHost())
        {
            MappingRecord? record = Domain.Shadow.End(range);
            if (record is null)
            {
                throw Refused(
                    Errno.EINVAL,
                    $"0x{range.Address:x} ({range.Purpose}, generation {range.Generation}) is not a live mapping of this device",
                    Domain.IsRemoved ? "Unmap before the device is removed" : "Unmap each mapping once, through the space that made it",
                    range.Memory);
            }

            Domain.EndWindows(record);
            Domain.Revoke(record);
            Domain.Counters.Unmaps++;
        }
    }

    public override void SyncForDevice(DeviceRange range, long offset, long length) => Domain.Counters.CountSync(forDevice: true, length);

    public override void SyncForCpu(DeviceRange range, long offset, long length) => Domain.Counters.CountSync(forDevice: false, length);

    private void Check(in MemoryRange memory, DmaDirection direction)
    {
        if (memory.Region is null)
            throw new DmaBufIoException(Errno.EINVAL, "Iommu", Name, "the range has no memory region", "Give a range of a region");
        if (direction is not (DmaDirection.ToDevice or DmaDirection.FromDevice or DmaDirection.Bidirectional))
            throw Refused(Errno.EINVAL, $"{direction} is no direction", "Map to the device, from the device, or both ways", memory);
        if (((memory.Offset | memory.Length) & (long)(PageTable.PageSize - 1)) != 0)
            throw Refused(
                Errno.EINVAL, $"offset and length are not multiples of {Granularity}", "Map whole pages and use a part of them", memory);
        if (memory.Length <= 0 || memory.Offset < 0 || memory.Offset > memory.Region.Length - memory.Length)
            throw Refused(
                Errno.EINVAL,
                $"the range is empty or leaves its region of {memory.Region.Length} bytes",
                "Map a range inside the region",
                memory);
    }

    private DmaBufIoException Refused(Errno errno, string problem, string remedy, in MemoryRange memory, string? rule = null) =>
        new(errno, "Iommu", Name, problem, remedy, range: $"{memory.Region.Name} {memory.Offset}+{memory.Length}", rule: rule);
}
