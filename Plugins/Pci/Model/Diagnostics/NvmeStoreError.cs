using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model;

/// <summary>A failure of the file behind a namespace. The host of the controller saw only a media error; this is the reason.</summary>
/// <param name="Errno">What the operating system answered, for example <c>ENOSPC</c>.</param>
/// <param name="Opcode">The I/O command's opcode; Flush (0) also for the flush at shutdown and disposal.</param>
/// <param name="QueueId">The submission queue; -1 when no command was concerned.</param>
/// <param name="CommandId">The command identifier; -1 when no command was concerned.</param>
/// <param name="Position">First byte of the command's range within the namespace.</param>
/// <param name="Length">Bytes of the command's range.</param>
public sealed record NvmeStoreError(Errno Errno, byte Opcode, int QueueId, int CommandId, long Position, long Length);
