using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <summary>How a ring is made.</summary>
public sealed record RingOptions
{
    /// <summary>A name for messages.</summary>
    public string Name { get; init; } = "ring";

    /// <summary>Requests that may be prepared, in flight or completed and not reaped, 1 to 65,536.</summary>
    public int Entries { get; init; } = 128;

    /// <summary>Slots of the table of registered buffers, 0 to 65,535.</summary>
    public int BufferSlots { get; init; } = 64;

    /// <summary>Bios of the ring's context: how many pieces of split requests can be in flight; at least <see cref="Entries"/>.</summary>
    public int Bios { get; init; } = 1024;

    /// <summary>How its registrations' tokens behave.</summary>
    public TokenOptions Tokens { get; init; } = TokenOptions.Default;

    /// <summary>True: a request that would have to wait for a new map completes with <c>EAGAIN</c> instead (T7, R4).</summary>
    public bool NoWait { get; init; }

    /// <summary>How it learns of completions.</summary>
    public CompletionMode Completion { get; init; }

    /// <summary>
    /// With <see cref="CompletionMode.Interrupts"/>: the longest sleep before the devices are looked at again, so that one that has gone silent is noticed. Completions never wait for it.
    /// Positive, or <see cref="Timeout.InfiniteTimeSpan"/>.
    /// </summary>
    /// <exception cref="Errors.DmaBufIoException">Not positive (<c>EINVAL</c>).</exception>
    public TimeSpan HealthCheckInterval
    {
        get;
        init => field = value > TimeSpan.Zero || value == Timeout.InfiniteTimeSpan
            ? value
            : throw new Errors.DmaBufIoException(Errors.Errno.EINVAL, "Rings", nameof(HealthCheckInterval), $"{value} is not positive", "Give a positive time, or Timeout.InfiniteTimeSpan");
    }
    = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// True: the ring has a thread of its own that submits and reaps, for an application that only awaits. Then the awaitable calls,
    /// registering and removing may come from any thread, continuations run on the thread pool, and the plain requests, <c>Submit</c>,
    /// <c>Reap</c> and <c>Drive</c> are refused (<see cref="InvalidOperationException"/>). The thread polls, or waits for interrupts (<see cref="Completion"/>),
    /// while requests are outstanding, for a moment longer, and then sleeps until one comes.
    /// </summary>
    public bool DriverThread { get; init; }
}

/// <summary>How a request ended.</summary>
/// <param name="UserData">The value given with the request.</param>
/// <param name="Status"><c>Ok</c>, or the first error.</param>
/// <param name="Bytes">Bytes transferred; fewer than asked for at the end of the file.</param>
public readonly record struct RingCompletion(ulong UserData, Errors.Errno Status, long Bytes);
