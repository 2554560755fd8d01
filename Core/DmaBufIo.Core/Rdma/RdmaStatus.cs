namespace DmaBufIo.Rdma;

/// <summary>How a work request ended: the names and numbers of verbs (<c>ibv_wc_status</c>). Every error moves both ends of the connection to <see cref="RdmaQueuePairState.Error"/>.</summary>
public enum RdmaStatus
{
    /// <summary>It is done; for a send: the peer has the message.</summary>
    Success = 0,

    /// <summary>The message is longer than the receive it went into; seen by the receiver.</summary>
    LocalLengthError = 1,

    /// <summary>
    /// The local key is not that of a region, the range leaves the region, the region lacks the right, or its memory could not be mapped.
    /// </summary>
    LocalProtectionError = 4,

    /// <summary>Another request or the peer has failed, or the connection was closed: this one was not begun, or not known to be done.</summary>
    WorkRequestFlushed = 5,

    /// <summary>The peer's receive is shorter than the message; seen by the sender.</summary>
    RemoteInvalidRequest = 9,

    /// <summary>The remote key is not that of a region of the peer's device, the range leaves it, or it lacks the right.</summary>
    RemoteAccessError = 10,

    /// <summary>The peer could not do its part: its own receive was wrong, or its memory could not be mapped.</summary>
    RemoteOperationError = 11,

    /// <summary>The peer does not answer: it is gone, or has not connected in time.</summary>
    RetryExceeded = 12,

    /// <summary>The peer has posted no receive in time.</summary>
    RnrRetryExceeded = 13,
}
