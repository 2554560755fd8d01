using DmaBufIo.Errors;

namespace DmaBufIo.Importers.NvmePci.Protocol;

/// <summary>What a completion's status means to the caller of a request. The one table of the driver.</summary>
/// <remarks>
/// A status code is the type (SCT) in bits 10:8 and the code (SC) in bits 7:0. No status becomes <c>EAGAIN</c>: after completion a
/// request is
/// never sent back to be issued again (T16). What is not listed is <c>EIO</c>.
/// </remarks>
public static class NvmeStatus
{
    /// <summary>The status code of a completion.</summary>
    /// <param name="dword3">Dword 3 of the completion queue entry.</param>
    /// <returns>Type and code in bits 10:0.</returns>
    public static int CodeOf(uint dword3) => (int)(dword3 >> 17) & 0x7FF;

    /// <summary>The errno for a status code.</summary>
    /// <param name="code">Type and code in bits 10:0.</param>
    /// <returns><c>Ok</c> for 0, else an error.</returns>
    public static Errno ToErrno(int code) => code switch
    {
        0x000 => Errno.Ok,
        0x001 => Errno.EOPNOTSUPP, // Invalid Command Opcode
        0x002 => Errno.EINVAL, // Invalid Field in Command
        0x004 => Errno.EIO, // Data Transfer Error: the device's DMA faulted
        0x005 or 0x007 or 0x008 => Errno.ECANCELED, // aborted: power loss, on request, submission queue deleted
        0x00B => Errno.ENODEV, // Invalid Namespace or Format: the namespace was detached
        0x00D or 0x00E or 0x00F or 0x010 or 0x011 or 0x013 => Errno.EINVAL, // data pointer: SGL and PRP rules
        0x020 => Errno.EROFS, // Namespace is Write Protected
        0x080 => Errno.ENOSPC, // LBA Out of Range
        0x081 => Errno.ENOSPC, // Capacity Exceeded: a thin namespace is full
        0x083 or 0x084 => Errno.EBUSY, // Reservation Conflict, Format in Progress
        0x180 => Errno.EINVAL, // Conflicting Attributes
        0x182 => Errno.EROFS, // Attempted Write to Read Only Range
        0x286 => Errno.EACCES, // Access Denied
        0x371 => Errno.ECANCELED, // Command Aborted By Host
        _ => Errno.EIO,
    };

    /// <summary>A status code for messages: its name where the driver expects it, always its number.</summary>
    /// <param name="code">Type and code in bits 10:0.</param>
    public static string Describe(int code)
    {
        string name = code switch
        {
            0x000 => "Successful Completion",
            0x001 => "Invalid Command Opcode",
            0x002 => "Invalid Field in Command",
            0x004 => "Data Transfer Error",
            0x006 => "Internal Error",
            0x00B => "Invalid Namespace or Format",
            0x013 => "PRP Offset Invalid",
            0x020 => "Namespace is Write Protected",
            0x080 => "LBA Out of Range",
            0x081 => "Capacity Exceeded",
            0x100 => "Completion Queue Invalid",
            0x101 => "Invalid Queue Identifier",
            0x102 => "Invalid Queue Size",
            0x10C => "Invalid Queue Deletion",
            0x280 => "Write Fault",
            0x281 => "Unrecovered Read Error",
            _ => "status",
        };
        return $"{name} (type {code >> 8}, code {code & 0xFF:X2}h)";
    }
}
