namespace DmaBufIo.Dma;

/// <summary>The direction of a transfer as the kernel's enum dma_data_direction names it, seen from memory.</summary>
[Flags]
public enum DmaDirection
{
    /// <summary>No transfer.</summary>
    None = 0,

    /// <summary>The device reads memory (a write request to storage, a send).</summary>
    ToDevice = 1,

    /// <summary>The device writes memory (a read request from storage, a receive).</summary>
    FromDevice = 2,

    /// <summary>Both ways.</summary>
    Bidirectional = ToDevice | FromDevice,
}
