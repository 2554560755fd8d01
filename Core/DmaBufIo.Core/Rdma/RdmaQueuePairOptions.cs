using DmaBufIo.Errors;

namespace DmaBufIo.Rdma;

/// <summary>How a queue pair is made.</summary>
public sealed record RdmaQueuePairOptions
{
    /// <summary>Send-side requests that may be posted and not reaped, 1 to 32,768.</summary>
    public int SendDepth { get; init; } = 64;

    /// <summary>Receives that may be posted and not reaped, 1 to 32,768.</summary>
    public int ReceiveDepth { get; init; } = 64;

    /// <summary>Where send-side requests end; null for a queue of the pair's own (<see cref="RdmaQueuePair.SendCompletions"/>).</summary>
    public RdmaCompletionQueue? SendCompletions { get; init; }

    /// <summary>Where receives end; null for the queue in which send-side requests end.</summary>
    public RdmaCompletionQueue? ReceiveCompletions { get; init; }

    /// <summary>How long a send waits for a peer that has not connected yet, before it ends with <see cref="RdmaStatus.RetryExceeded"/>. Positive, or infinite.</summary>
    public TimeSpan RetryTimeout { get; init => field = Checked(value, nameof(RetryTimeout)); } = TimeSpan.FromSeconds(2);

    /// <summary>
    /// How long a send waits for the peer to post a receive, before it ends with <see cref="RdmaStatus.RnrRetryExceeded"/>. Positive; infinite by default, as the retry count 7 of verbs.
    /// </summary>
    public TimeSpan RnrTimeout { get; init => field = Checked(value, nameof(RnrTimeout)); } = Timeout.InfiniteTimeSpan;

    /// <summary>Throws when a depth is out of range.</summary>
    /// <exception cref="DmaBufIoException">Out of range (<c>EINVAL</c>).</exception>
    public void Validate()
    {
        if (SendDepth is < 1 or > 32768 || ReceiveDepth is < 1 or > 32768)
            throw Wrong($"depths {SendDepth} and {ReceiveDepth} are out of range", "Use 1 to 32768");
    }

    private static TimeSpan Checked(TimeSpan value, string name) => value > TimeSpan.Zero || value == Timeout.InfiniteTimeSpan
        ? value
        : throw Wrong($"{name} {value} is not positive", "Give a positive time, or Timeout.InfiniteTimeSpan");

    private static DmaBufIoException Wrong(string problem, string remedy) => new(Errno.EINVAL, "Rdma", nameof(RdmaQueuePairOptions), problem, remedy);
}
