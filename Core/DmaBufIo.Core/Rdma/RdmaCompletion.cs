namespace DmaBufIo.Rdma;

/// <summary>How one work request ended (verbs: <c>ibv_wc</c>).</summary>
/// <param name="Id">The value given with the request.</param>
/// <param name="Opcode">What it was.</param>
/// <param name="Status">How it ended. With an error, the memory of a receive or of an RDMA read may hold a part of the data.</param>
/// <param name="Length">Bytes transferred; of a receive: the length of the message. 0 with an error.</param>
/// <param name="QueuePair">The number of the queue pair it was posted to.</param>
public readonly record struct RdmaCompletion(ulong Id, RdmaOpcode Opcode, RdmaStatus Status, long Length, int QueuePair);
