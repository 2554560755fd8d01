namespace DmaBufIo.Native;

/// <summary>What makes two descriptors the same file: device number and inode.</summary>
/// <param name="Device">Major number in the upper, minor number in the lower 32 bits.</param>
/// <param name="Inode">The inode number on that device.</param>
internal readonly record struct FileIdentity(ulong Device, ulong Inode);
