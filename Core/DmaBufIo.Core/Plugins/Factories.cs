using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Native;
using DmaBufIo.Pci;

namespace DmaBufIo.Plugins;

/// <summary>Makes PCI functions for a word of the topology grammar: a device model from a file, a real device from its address.</summary>
public interface IPciFunctionFactory
{
    /// <summary>The word, lower case, for example "nvme".</summary>
    string Word { get; }

    /// <summary>Makes the function; the host then looks for a driver that matches its identity.</summary>
    /// <param name="expression">The node with this word.</param>
    /// <param name="readOnly">True when the host will only read: open the storage without write access.</param>
    /// <returns>The function; the caller owns it.</returns>
    /// <exception cref="Errors.DmaBufIoException">The file cannot be opened, an option is wrong.</exception>
    PciFunction Create(DeviceExpression expression, bool readOnly);

    /// <summary>The file that the function keeps its data in, so that one file is not two members of a set. The default is none.</summary>
    /// <param name="expression">The node with this word; nothing need exist.</param>
    /// <returns>A path, or null.</returns>
    string? BackingFile(DeviceExpression expression) => null;
}

/// <summary>A driver for PCI functions, as the bus sees it.</summary>
public interface IPciDriver
{
    /// <summary>The driver's name, for messages.</summary>
    string Name { get; }

    /// <summary>True when the driver handles functions of this identity.</summary>
    /// <param name="identity">From configuration space.</param>
    bool Matches(in PciIdentity identity);

    /// <summary>Binds the driver to a function: resets and initialises it and finds its block devices.</summary>
    /// <param name="function">The function; on success the binding owns it, on failure the caller keeps it.</param>
    /// <param name="name">A name for the device, unique in the host, for example "nvme0".</param>
    /// <returns>The binding; dispose it to remove the device.</returns>
    /// <exception cref="Errors.DmaBufIoException">The function does not answer as it should (<c>EIO</c>, <c>ETIMEDOUT</c>, <c>ENODEV</c>).</exception>
    IPciBinding Probe(PciFunction function, string name);
}

/// <summary>A driver bound to a PCI function. Disposing removes the device: in-flight requests end with an error, tokens answer <c>ENODEV</c>, maps are gone when it returns (T11).</summary>
public interface IPciBinding : IResettable, IDisposable
{
    /// <summary>The block devices found, at least one for storage; empty for others.</summary>
    IReadOnlyList<BlockDevice> BlockDevices { get; }
}

/// <summary>Makes block devices on top of others: RAID sets, linear sets, null devices.</summary>
public interface IBlockDeviceFactory
{
    /// <summary>The word, lower case, for example "raid0".</summary>
    string Word { get; }

    /// <summary>Makes the device.</summary>
    /// <param name="expression">The node with this word.</param>
    /// <param name="members">The devices in its parentheses, in order; they outlive the result.</param>
    /// <returns>The device; the caller owns it, and disposes it where it is <see cref="IDisposable"/>. One that can be reset is <see cref="IResettable"/>.</returns>
    BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members);

    /// <summary>How large each member must be for a device of a size: for whoever makes the members. The default is for devices that add nothing of their own.</summary>
    /// <param name="expression">The node with this word; its members need not exist.</param>
    /// <param name="capacity">Bytes that the device is to hold, or more.</param>
    /// <returns>Bytes of each member, a multiple of 4096.</returns>
    /// <exception cref="Errors.DmaBufIoException">A broken expression (<c>EINVAL</c>).</exception>
    long MemberCapacity(DeviceExpression expression, long capacity) => (capacity + 4095) & -4096;

    /// <summary>True when the device goes on without some of its members: those that are not there are given as <see cref="AbsentDevice"/>. The default is that it needs all.</summary>
    bool TakesAbsentMembers => false;

    /// <summary>Looks whether a device belongs to one of this word: reads, and writes nothing. May sleep. The default is for devices that leave no mark.</summary>
    /// <param name="device">Any device.</param>
    /// <returns>Null when it carries nothing of this word.</returns>
    /// <exception cref="Errors.DmaBufIoException">It cannot be read.</exception>
    DeviceMark? Look(BlockDevice device) => null;
}

/// <summary>Makes buffers for an exporter word.</summary>
public interface IExporterFactory
{
    /// <summary>The word, lower case, for example "udmabuf".</summary>
    string Word { get; }

    /// <summary>True when buffers of this exporter can be moved on demand (<see cref="IMovableBuffers"/> tells how).</summary>
    bool CanMove { get; }

    /// <summary>Makes a buffer.</summary>
    /// <param name="expression">The node with this word.</param>
    /// <param name="name">A name for the buffer, for messages.</param>
    /// <param name="size">Bytes, a positive multiple of the page size.</param>
    /// <returns>The buffer, with one reference that the caller drops by <see cref="DmaBuf.Put"/>.</returns>
    DmaBuf Create(DeviceExpression expression, string name, long size);
}

/// <summary>An exporter factory that makes a buffer of memory the application has already: sealed memory files.</summary>
public interface IMemoryFileExporter
{
    /// <summary>Makes a buffer of ranges of memory files, in order.</summary>
    /// <param name="name">A name for the buffer, for messages.</param>
    /// <param name="ranges">At least one; each page-aligned, inside its file, the file sealed against shrinking. Duplicated: the handles stay the caller's.</param>
    /// <returns>The buffer, with one reference that the caller drops by <see cref="DmaBuf.Put"/>.</returns>
    /// <exception cref="Errors.DmaBufIoException">A range or a file breaks one of the rules (<c>EINVAL</c>).</exception>
    DmaBuf Export(string name, IReadOnlyList<MemoryFileRange> ranges);
}

/// <summary>A range of a memory file.</summary>
/// <param name="File">The file.</param>
/// <param name="Offset">First byte, a multiple of the page size.</param>
/// <param name="Length">Bytes, a positive multiple of the page size.</param>
public readonly record struct MemoryFileRange(MemfdHandle File, long Offset, long Length);

/// <summary>An exporter factory whose buffers can be moved by the host (under memory pressure, for tests, for exercise).</summary>
public interface IMovableBuffers
{
    /// <summary>
    /// Moves the buffer to other memory: takes its reservation lock, invalidates all importers, copies, poisons and marks the old place dead.
    /// Blocks until done; not in completion context, not while holding a map reference (T15).
    /// </summary>
    /// <param name="buffer">A buffer of this exporter.</param>
    /// <param name="cancellationToken">Interrupts the wait for the reservation lock.</param>
    /// <returns>How many maps were killed and how many requests were using them at that moment.</returns>
    InvalidationReport Move(DmaBuf buffer, CancellationToken cancellationToken = default);
}
