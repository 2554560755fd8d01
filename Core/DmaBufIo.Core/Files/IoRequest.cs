using DmaBufIo.Errors;
using DmaBufIo.Iov;

namespace DmaBufIo.Files;

/// <summary>One logical request on its way through a file: what the kernel keeps in its kiocb and iov_iter. Plain data in its ring's table.</summary>
/// <remarks>
/// A file turns it into bios: each carries <see cref="BioOwner"/> as its owner and <see cref="Tag"/> as its cookie and adds one to <see cref="Pending"/>;
/// the ring takes it from there. The iterator advances by what was issued. Before the first bio a file may answer <c>EAGAIN</c>; after it the rest is
/// issued later from where the iterator stands, with the same reference on the map (T16).
/// </remarks>
public struct IoRequest
{
    /// <summary>The memory side: where the next byte lies in memory.</summary>
    public IovIter Iter;

    /// <summary>Where the next byte lies in the file; advances with the iterator.</summary>
    public long FileOffset;

    /// <summary>Bytes that ended well so far.</summary>
    public long Transferred;

    /// <summary>The request's place in its ring: the cookie of its bios.</summary>
    public int Tag;

    /// <summary>The owner of its bios in the context's pool.</summary>
    public int BioOwner;

    /// <summary>Bios issued and not ended.</summary>
    public int Pending;

    /// <summary>The first error.</summary>
    public Errno Status;
}
