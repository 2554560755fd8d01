namespace DmaBufIo.Pci.Model;

/// <summary>A rule of the host's side of NVMe that was broken, as the controller saw it.</summary>
/// <param name="Rule">The rule: P1 to P15 and S7 as numbered in this project's notes on PRP and SGL, else "reserved", "NSID",
/// "FUSE", "doorbell", "register" or "CC".</param>
/// <param name="Opcode">The command's opcode; 0 when no command was concerned.</param>
/// <param name="QueueId">The submission queue, or the queue whose doorbell was written; -1 when none.</param>
/// <param name="CommandId">The command identifier; -1 when no command was concerned.</param>
/// <param name="Address">The PRP entry, list pointer, register offset or field value that broke the rule.</param>
/// <param name="Problem">What is wrong, as a clause.</param>
public sealed record NvmeViolation(string Rule, byte Opcode, int QueueId, int CommandId, ulong Address, string Problem);
