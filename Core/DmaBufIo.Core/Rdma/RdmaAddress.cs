namespace DmaBufIo.Rdma;

/// <summary>Names a queue pair to its peer.</summary>
/// <param name="Device">The device's name on the wire, for example "left".</param>
/// <param name="QueuePair">The queue pair's number on it.</param>
public readonly record struct RdmaAddress(string Device, int QueuePair)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Device}/{QueuePair}";
}
