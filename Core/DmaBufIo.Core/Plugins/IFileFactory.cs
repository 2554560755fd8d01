using DmaBufIo.Block;
using DmaBufIo.Files;

namespace DmaBufIo.Plugins;

/// <summary>Opens files on block devices for a word of the topology grammar: <c>WORD:NAME@(DEVICE,…)</c>.</summary>
public interface IFileFactory
{
    /// <summary>The word, lower case, for example "extent".</summary>
    string Word { get; }

    /// <summary>Opens a file, and makes it where the expression says how large it is to be. May sleep.</summary>
    /// <param name="expression">The node with this word.</param>
    /// <param name="members">The devices in its parentheses, in order; they outlive the file.</param>
    /// <param name="flags">How it is opened.</param>
    /// <returns>The file, with one reference that the caller drops by <see cref="IoFile.Put"/>.</returns>
    /// <exception cref="Errors.DmaBufIoException">There is no such file (<c>ENOENT</c>), no space for it (<c>ENOSPC</c>), or what the devices say.</exception>
    IoFile Open(DeviceExpression expression, IReadOnlyList<BlockDevice> members, OpenFlags flags);

    /// <summary>How large each device must be for a file of a size: for whoever makes the devices.</summary>
    /// <param name="expression">The node with this word; its members need not exist.</param>
    /// <param name="size">Bytes of the file.</param>
    /// <returns>Bytes of each device, a multiple of 4096.</returns>
    long MemberCapacity(DeviceExpression expression, long size);

    /// <summary>Looks whether a device belongs to one of this word: reads, and writes nothing. May sleep. The default is for files that leave no mark.</summary>
    /// <param name="device">Any device.</param>
    /// <returns>Null when it carries nothing of this word.</returns>
    /// <exception cref="Errors.DmaBufIoException">It cannot be read.</exception>
    DeviceMark? Look(BlockDevice device) => null;
}
