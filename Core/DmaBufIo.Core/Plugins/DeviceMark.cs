namespace DmaBufIo.Plugins;

/// <summary>What a plugin has written about itself to a device: whose device it is.</summary>
/// <param name="Description">For people: a clause after "it is", for example "member 1 of the mirror 3f2c…".</param>
/// <param name="Words">The words of the grammar whose devices or files stand on it.</param>
/// <param name="Offset">First byte of what would have to be cleared before the device can be used for something else; a multiple of 4096.</param>
/// <param name="Length">Bytes to clear, a multiple of 4096.</param>
/// <param name="MemberCapacity">Bytes that another member of the same set must have, a multiple of 4096; 0 when there is no such rule.</param>
public sealed record DeviceMark(string Description, IReadOnlyList<string> Words, long Offset, long Length, long MemberCapacity);
