namespace DmaBufIo.Errors;

/// <summary>Linux errno values under their kernel names. A status code travels with its name: <c>EAGAIN</c>, not -11.</summary>
/// <remarks>The numeric values are those of Linux on x86-64 and AArch64 (asm-generic/errno.h).</remarks>
public enum Errno
{
    /// <summary>Success.</summary>
    Ok = 0,

    /// <summary>Operation not permitted.</summary>
    EPERM = 1,

    /// <summary>No such file or object.</summary>
    ENOENT = 2,

    /// <summary>An interruptible wait was interrupted (cancelled).</summary>
    EINTR = 4,

    /// <summary>The device reported an I/O error.</summary>
    EIO = 5,

    /// <summary>No such device or address: a table or unit that does not exist.</summary>
    ENXIO = 6,

    /// <summary>Bad descriptor, or a registration used with a file it was not made for (T13, R3).</summary>
    EBADF = 9,

    /// <summary>Try again: the operation would have to wait and may not (T7, R4).</summary>
    EAGAIN = 11,

    /// <summary>Out of memory.</summary>
    ENOMEM = 12,

    /// <summary>Permission denied, or access rights of a map exceeded.</summary>
    EACCES = 13,

    /// <summary>An address or byte range lies outside its buffer (R2).</summary>
    EFAULT = 14,

    /// <summary>The object is in use.</summary>
    EBUSY = 16,

    /// <summary>The object exists already.</summary>
    EEXIST = 17,

    /// <summary>The device is gone (T11).</summary>
    ENODEV = 19,

    /// <summary>A file was expected, a directory was given.</summary>
    EISDIR = 21,

    /// <summary>An argument is not valid: alignment, reserved fields, unknown values.</summary>
    EINVAL = 22,

    /// <summary>A table is full.</summary>
    EMFILE = 24,

    /// <summary>Beyond the end of the device, or the storage is full.</summary>
    ENOSPC = 28,

    /// <summary>The storage is write-protected.</summary>
    EROFS = 30,

    /// <summary>The locker was wounded and must back off (wound/wait), or a wait would deadlock.</summary>
    EDEADLK = 35,

    /// <summary>The lock is held by this acquire context already.</summary>
    EALREADY = 114,

    /// <summary>A value does not fit its field.</summary>
    EOVERFLOW = 75,

    /// <summary>The message is longer than the buffer that was to receive it.</summary>
    EMSGSIZE = 90,

    /// <summary>The file, device or iterator does not support the operation (T1).</summary>
    EOPNOTSUPP = 95,

    /// <summary>The peer of the connection is gone.</summary>
    ECONNRESET = 104,

    /// <summary>The connection exists already.</summary>
    EISCONN = 106,

    /// <summary>There is no connection yet.</summary>
    ENOTCONN = 107,

    /// <summary>The object was shut down.</summary>
    ESHUTDOWN = 108,

    /// <summary>The device did not answer in time.</summary>
    ETIMEDOUT = 110,

    /// <summary>The memory is on another device, and the one that wants it cannot reach it there: peer-to-peer is not possible.</summary>
    EREMOTEIO = 121,

    /// <summary>The request was cancelled: reset, removal or shutdown (T11, N8).</summary>
    ECANCELED = 125,
}
