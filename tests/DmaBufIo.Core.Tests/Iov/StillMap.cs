using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Iov;

/// <summary>A map that maps nothing: an iterator must never look into one (I3, I4).</summary>
internal sealed class StillMap(long length, long smallestSegment = 4096) : DmaMap(length, smallestSegment);
