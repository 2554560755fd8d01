namespace DmaBufIo.Rdma;

/// <summary>What a work request does.</summary>
public enum RdmaOpcode
{
    /// <summary>Sends a message into the peer's next posted receive.</summary>
    Send,

    /// <summary>Takes one message.</summary>
    Receive,

    /// <summary>Writes local memory into the peer's; the peer's software does not hear of it.</summary>
    RdmaWrite,

    /// <summary>Reads the peer's memory into local memory.</summary>
    RdmaRead,
}
