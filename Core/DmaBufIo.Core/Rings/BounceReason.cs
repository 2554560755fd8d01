namespace DmaBufIo.Rings;

/// <summary>Why the CPU copied a request's data through the bounce pool (<see cref="TransferPolicy.AllowBounce"/>).</summary>
public enum BounceReason : byte
{
    /// <summary>It did not: the device has moved the data directly, or nothing was moved.</summary>
    None = 0,

    /// <summary>The file takes no registered buffers, or its device cannot map this one (<c>EOPNOTSUPP</c>).</summary>
    NotMappable,

    /// <summary>A range of the request is not aligned in the buffer as the device needs it.</summary>
    Unaligned,

    /// <summary>The device cannot reach the memory of the device that owns the buffer (<c>EREMOTEIO</c>).</summary>
    NoPeerToPeer,
}
