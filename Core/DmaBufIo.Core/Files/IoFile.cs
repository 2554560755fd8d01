using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Iov;
using DmaBufIo.Tokens;

namespace DmaBufIo.Files;

/// <summary>How a file is opened.</summary>
[Flags]
public enum OpenFlags
{
    /// <summary>Read and write, buffered.</summary>
    None = 0,

    /// <summary>No writes: they answer <c>EBADF</c>.</summary>
    ReadOnly = 1,

    /// <summary>No cache between the application and the device (O_DIRECT). Registered buffers need it (B5).</summary>
    Direct = 2,
}

/// <summary>
/// An open file: the operations that a device or file system supplies. Only the file knows on which devices it stands; that is why tokens are made here.
/// Counted: opened with one reference, closed with the last; tokens and rings hold references.
/// </summary>
public abstract class IoFile : ITokenOwner
{
    private int _references = 1;
    private volatile int _flags;

    /// <summary>Opens the file.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="flags">How it is opened.</param>
    protected IoFile(string name, OpenFlags flags)
    {
        Name = name;
        _flags = (int)flags;
    }

    /// <inheritdoc/>
    public string Name { get; }

    /// <summary>Size in bytes.</summary>
    public abstract long Size { get; }

    /// <summary>The unit of offsets and lengths in bytes (R2).</summary>
    public virtual int BlockSize => 512;

    /// <summary>
    /// The unit of offsets in registered buffers, in bytes: a power of two, at most a page, as <c>stx_dio_mem_align</c> of statx(2). Requests at other offsets answer <c>EINVAL</c> (B3, N2). Constant.
    /// </summary>
    public virtual int MemoryAlignment => 4;

    /// <summary>How it is opened now. <see cref="OpenFlags.Direct"/> can be changed while it is open, as fcntl(2) can: it is looked at again for every request (B5).</summary>
    public OpenFlags Flags => (OpenFlags)_flags;

    /// <summary>References held.</summary>
    public int References => Volatile.Read(ref _references);

    /// <summary>True once the last reference is gone.</summary>
    public bool IsClosed => References == 0;

    /// <summary>Sets or clears <see cref="OpenFlags.Direct"/>.</summary>
    /// <param name="direct">True for direct I/O.</param>
    public void SetDirect(bool direct) => _flags = (int)(direct ? Flags | OpenFlags.Direct : Flags & ~OpenFlags.Direct);

    /// <summary>Takes a reference.</summary>
    /// <exception cref="DmaBufIoException">The file was closed (<c>EBADF</c>).</exception>
    public void Get()
    {
        int seen = Volatile.Read(ref _references);
        while (seen > 0)
        {
            int found = Interlocked.CompareExchange(ref _references, seen + 1, seen);
            if (found == seen)
                return;
            seen = found;
        }

        throw new DmaBufIoException(Errno.EBADF, "Files", Name, "the file was closed", "Open it again");
    }

    /// <summary>Drops a reference; the last one closes the file. May sleep.</summary>
    public void Put()
    {
        int left = Interlocked.Decrement(ref _references);
        if (left == 0)
            Close();
        else if (left < 0)
            throw new InvalidOperationException($"A reference of file {Name} was dropped twice.");
    }

    /// <summary>
    /// True once the device under the file is gone: registrations are refused with <c>ENODEV</c> (T11). A file that stands on several
    /// answers for all of them.
    /// </summary>
    public virtual bool IsRemoved => false;

    /// <summary>
    /// True when the file's device takes the references on maps itself, for one bounded piece of DMA at a time, as a device with on-demand paging does. A file whose
    /// requests wait for others (a message that has still to come) must: a request that waits may not keep a map (T15).
    /// </summary>
    /// <remarks>The ring then takes none, and gives requests to <see cref="FileQueue.IssuePaged"/> with the token in place of a map; it makes no map and never waits for one. Constant.</remarks>
    public virtual bool IsPaged => false;

    /// <summary>Registers a buffer with the file (T1, T2, B5).</summary>
    /// <param name="buffer">The buffer.</param>
    /// <param name="direction">The transfers.</param>
    /// <param name="options">How the token behaves; null for the defaults.</param>
    /// <returns>The token; end it by <see cref="DmaBufToken.Release"/>.</returns>
    /// <exception cref="DmaBufIoException">Not opened for direct I/O (<c>EINVAL</c>), no token operation (<c>EOPNOTSUPP</c>), the device is gone (<c>ENODEV</c>), or the driver refuses.</exception>
    public DmaBufToken OpenToken(DmaBuf buffer, DmaDirection direction, TokenOptions? options = null)
    {
        CheckDirect();
        return DmaBufToken.Create(this, buffer, direction, options ?? TokenOptions.Default, CreateToken);
    }

    /// <summary>
    /// Registers a buffer for requests that the CPU copies through a bounce pool: the file's devices are not asked. Checked as in <see cref="OpenToken"/>.
    /// </summary>
    internal DmaBufToken OpenBounceToken(DmaBuf buffer, DmaDirection direction, TokenOptions options)
    {
        CheckRegistration(direction);

        // The CPU writes the buffer when the device does: not while a job still reads it.
        bool writes = (direction & DmaDirection.FromDevice) != 0;
        if (writes && options.WaitBeforeMap == FenceUsage.Write)
            options = options with { WaitBeforeMap = FenceUsage.Read };
        return DmaBufToken.Create(new BouncedFile(this), buffer, direction, options, static (b, d) => new BounceTokenDriver(b, d));
    }

    /// <summary>
    /// What <see cref="OpenToken"/> checks, for a registration that needs no token because each of its requests is mapped for itself.
    /// </summary>
    internal void CheckRegistration(DmaDirection direction)
    {
        CheckDirect();
        if (direction is not (DmaDirection.ToDevice or DmaDirection.FromDevice or DmaDirection.Bidirectional))
            throw Refused(Errno.EINVAL, "T1", $"'{direction}' is no direction of a registration", "Register to device, from it, or both");
        if (IsRemoved)
            throw Refused(Errno.ENODEV, "T11", "the device was removed", "Register the buffer with another device");
    }

    /// <summary>Opens the file's queue for a context. May sleep.</summary>
    /// <param name="context">Whose current owner alone uses the queue.</param>
    /// <param name="bios">The context's bios.</param>
    /// <param name="depth">Requests the caller wants in flight.</param>
    /// <returns>The queue; the caller disposes it after its requests have ended, and keeps a reference on the file until then.</returns>
    public abstract FileQueue OpenQueue(IoContext context, BioPool bios, int depth);

    /// <summary>The token operation. A file without it takes no registered buffers (T1).</summary>
    /// <param name="buffer">The buffer.</param>
    /// <param name="direction">The transfers.</param>
    /// <returns>The driver's part, not set up yet; null when the file has no such operation.</returns>
    protected virtual TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => null;

    /// <summary>The last reference is gone.</summary>
    protected virtual void Close()
    {
    }

    private void CheckDirect()
    {
        if (!Flags.HasFlag(OpenFlags.Direct))
        {
            throw Refused(
                Errno.EINVAL, "B5", "the file is opened for buffered I/O and takes no registered buffer", "Open it with OpenFlags.Direct");
        }
    }

    private DmaBufIoException Refused(Errno errno, string rule, string problem, string remedy) =>
        new(errno, "Files", Name, problem, remedy, rule: rule);
}

/// <summary>A file's queue for one context: its read and write operations. Called by the context's current owner; nothing but <see cref="TryEnableInterrupts"/> and <see cref="Dispose"/> may sleep.</summary>
public abstract class FileQueue : IDisposable
{
    /// <summary>Issues a read into the iterator's memory, or as much of it as there is room for.</summary>
    /// <param name="request">The request; see <see cref="IoRequest"/>.</param>
    /// <param name="iter">Advances by what was issued.</param>
    /// <returns><c>Ok</c> (everything, or up to the end of the file, or a part); <c>EAGAIN</c> when there is no room for any of it now; an error.</returns>
    public abstract Errno ReadIter(ref IoRequest request, ref IovIter iter);

    /// <summary>Issues a write from the iterator's memory; see <see cref="ReadIter"/>.</summary>
    /// <param name="request">The request.</param>
    /// <param name="iter">Advances by what was issued.</param>
    public abstract Errno WriteIter(ref IoRequest request, ref IovIter iter);

    /// <summary>Issues several requests of one kind, each one range of one map, in order: for files to whom a batch costs less than its requests one by one.</summary>
    /// <param name="isWrite">True for writes.</param>
    /// <param name="map">The map; each request holds a reference on it.</param>
    /// <param name="requests">The table of requests; their iterators have offset, count and direction, their map is <paramref name="map"/>.</param>
    /// <param name="tags">Which of them, in order.</param>
    /// <returns>How many were issued wholly, from the first one on; nobody looks at their iterators any more. The next is then given to <see cref="ReadIter"/> or <see cref="WriteIter"/>.</returns>
    public virtual int IssueRanges(bool isWrite, DmaMap map, Span<IoRequest> requests, ReadOnlySpan<int> tags) => 0;

    /// <summary>Issues one request of a file that takes references itself (<see cref="IoFile.IsPaged"/>): all of it, as one bio.</summary>
    /// <param name="isWrite">True for a write.</param>
    /// <param name="token">The registration's token; no reference on a map of it is held. It outlives the request.</param>
    /// <param name="offset">First byte in the buffer; the range lies in the buffer (R2).</param>
    /// <param name="length">Bytes, more than 0.</param>
    /// <param name="request">The request. The size of its bio, when that ends well, is what was transferred.</param>
    /// <returns><c>Ok</c>; <c>EAGAIN</c> when there is no room for it now; an error.</returns>
    public virtual Errno IssuePaged(bool isWrite, DmaBufToken token, long offset, long length, ref IoRequest request) => Errno.EOPNOTSUPP;

    /// <summary>Makes everything acknowledged before durable.</summary>
    /// <param name="request">The request.</param>
    /// <returns><c>Ok</c>, <c>EAGAIN</c> when there is no room now, or an error.</returns>
    public abstract Errno Fsync(ref IoRequest request);

    /// <summary>Tells the devices about everything issued since the last call.</summary>
    public abstract void Commit();

    /// <summary>Ends the bios that the devices have completed.</summary>
    /// <param name="max">At most this many.</param>
    /// <returns>How many.</returns>
    public abstract int Poll(int max);

    /// <summary>Asks the devices to interrupt; see <see cref="BlockQueue.TryEnableInterrupts"/>. A file on several devices answers true only when all of them do.</summary>
    /// <param name="handler">Called in completion context, after <see cref="Poll"/> would find something.</param>
    /// <returns>False when the queue can only be polled.</returns>
    public virtual bool TryEnableInterrupts(Action handler) => false;

    /// <summary>Closes the queue. No request is in flight. May sleep.</summary>
    public abstract void Dispose();
}
