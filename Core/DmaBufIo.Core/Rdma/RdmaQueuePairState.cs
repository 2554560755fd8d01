namespace DmaBufIo.Rdma;

/// <summary>
/// The states of a queue pair as verbs users know them, without Reset: a pair is made in <see cref="Init"/>, and one that has failed is disposed and another made.
/// </summary>
public enum RdmaQueuePairState
{
    /// <summary>Receives may be posted; it knows no peer.</summary>
    Init,

    /// <summary>It has named its peer, which has not named it yet. Sends may be posted and wait.</summary>
    ReadyToReceive,

    /// <summary>Both ends have named each other.</summary>
    ReadyToSend,

    /// <summary>A request has failed, the peer is gone, or it was disconnected. Everything posted ends with <see cref="RdmaStatus.WorkRequestFlushed"/>.</summary>
    Error,
}
