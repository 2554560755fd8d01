using System.Runtime.InteropServices;
using DmaBufIo.Errors;
using DmaBufIo.Native;

namespace DmaBufIo.DmaBufs;

/// <summary>Which descriptor stands for which buffer: by the file behind it, so that a duplicate finds the same buffer.</summary>
internal static class DmaBufTable
{
    private static readonly Lock s_lock = new();
    private static readonly Dictionary<FileIdentity, DmaBuf> s_buffers = [];

    internal static void Add(MemfdHandle descriptor, DmaBuf buffer)
    {
        Errno status = Libc.Stat(descriptor.Number, out FileIdentity identity, out _);
        if (status != Errno.Ok)
            throw new DmaBufIoException(status, "DmaBufs", buffer.Name, "the descriptor that stands for the buffer cannot be examined", "Hand over an open descriptor");
        lock (s_lock)
        {
            if (!s_buffers.TryAdd(identity, buffer))
                throw new DmaBufIoException(Errno.EEXIST, "DmaBufs", buffer.Name, $"the descriptor stands for buffer {s_buffers[identity].Name} already", "Export a memory file once, or duplicate the buffer's descriptor");
        }
    }

    internal static void Remove(MemfdHandle descriptor, DmaBuf buffer)
    {
        if (Libc.Stat(descriptor.Number, out FileIdentity identity, out _) != Errno.Ok)
            return;
        lock (s_lock)
        {
            if (s_buffers.TryGetValue(identity, out DmaBuf? found) && ReferenceEquals(found, buffer))
                s_buffers.Remove(identity);
        }
    }

    internal static DmaBuf Find(SafeHandle descriptor)
    {
        FileIdentity identity;
        bool taken = false;
        try
        {
            if (descriptor.IsClosed || descriptor.IsInvalid)
                throw Closed();
            descriptor.DangerousAddRef(ref taken);
            if (Libc.Stat((int)descriptor.DangerousGetHandle(), out identity, out _) != Errno.Ok)
                throw Closed();
        }
        finally
        {
            if (taken)
                descriptor.DangerousRelease();
        }

        lock (s_lock)
        {
            if (s_buffers.TryGetValue(identity, out DmaBuf? buffer) && buffer.TryGet())
                return buffer;
        }

        throw new DmaBufIoException(Errno.EINVAL, "DmaBufs", "descriptor", "it is open but stands for no dma-buf", "Pass the descriptor of an exported buffer; plain memory files must be exported first", rule: "R1");
    }

    private static DmaBufIoException Closed() =>
        new(Errno.EBADF, "DmaBufs", "descriptor", "it is not open", "Pass an open descriptor", rule: "R1");
}
