namespace DmaBufIo.Rings;

/// <summary>Why the CPU copied a request's data through the bounce pool (<see cref="TransferPolicy.AllowBounce"/>).</summary>
public enum BounceReason : byte
{
    /// <summary>It did not: the request was given to the device as it is. A request that was bounced says so even when it moved nothing, at the end of a file or because it failed.</summary>
    None = 0,

    /// <summary>The file takes no registered buffers, or its device cannot map this one (<c>EOPNOTSUPP</c>).</summary>
    NotMappable,

    /// <summary>A range of the request is not aligned in the buffer as the device needs it.</summary>
    Unaligned,

    /// <summary>The device cannot reach the memory of the device that owns the buffer (<c>EREMOTEIO</c>).</summary>
    NoPeerToPeer,
}
