using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Block;

/// <summary>Moves the data of a bio for a device in this process whose storage the CPU can address: between that storage and memory, through the device's DMA port.</summary>
public static class BioTransfer
{
    /// <summary>Moves the data of one bio. Nothing is allocated for one that is backed by a <see cref="RangeMap"/>; one that is backed by pages is mapped for the device and unmapped again.</summary>
    /// <param name="bio">A read or a write.</param>
    /// <param name="backing">What it is backed by (<see cref="BioPool.BackingOf"/>): a <see cref="RangeMap"/> or a memory region.</param>
    /// <param name="device">Whose addresses are used.</param>
    /// <param name="port">The device's end.</param>
    /// <param name="data">Where the device keeps the bytes: <see cref="Bio.Size"/> of them.</param>
    /// <returns><c>Ok</c>; <c>EIO</c> when the memory could not be reached, as a device reports it; <c>EOPNOTSUPP</c> for a backing of another kind (B1).</returns>
    public static Errno Move(in Bio bio, object? backing, DmaDevice device, DmaPort port, Span<byte> data)
    {
        bool isWrite = bio.Operation == BioOperation.Write;
        Errno status = backing switch
        {
            RangeMap map => isWrite ? map.Read(port, bio.Offset, data) : map.Write(port, bio.Offset, data),
            MemoryRegion pages => MovePages(bio, pages, device.AddressSpace, port, data),
            _ => Errno.EOPNOTSUPP,
        };
        return status is Errno.Ok or Errno.EOPNOTSUPP ? status : Errno.EIO;
    }

    // Mapped for this bio alone, as memory is that is not registered.
    private static Errno MovePages(in Bio bio, MemoryRegion pages, DmaAddressSpace space, DmaPort port, Span<byte> data)
    {
        long start = bio.Offset / space.Granularity * space.Granularity;
        long end = (bio.Offset + bio.Size + space.Granularity - 1) / space.Granularity * space.Granularity;
        long within = bio.Offset - start;
        bool isWrite = bio.Operation == BioOperation.Write;
        DeviceRange range;
        try
        {
            range = space.Map(new MemoryRange(pages, start, end - start), isWrite ? DmaDirection.ToDevice : DmaDirection.FromDevice, pages.Name);
        }
        catch (DmaBufIoException e)
        {
            // The request path answers a status; the address space's reason is lost with it.
            return e.Errno;
        }

        try
        {
            if (isWrite)
                space.SyncForDevice(range, within, bio.Size);
            Errno status = isWrite ? port.Read(range.Address + (ulong)within, data) : port.Write(range.Address + (ulong)within, data);
            if (!isWrite)
                space.SyncForCpu(range, within, bio.Size);
            return status;
        }
        finally
        {
            space.Unmap(range);
        }
    }
}
