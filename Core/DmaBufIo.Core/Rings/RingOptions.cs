using DmaBufIo.Errors;
using DmaBufIo.Memory;
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

    /// <summary>What happens to requests that the device cannot do in place, for registrations that do not say (<see cref="BufferRegistration.Policy"/>).</summary>
    /// <exception cref="DmaBufIoException">No such policy (<c>EINVAL</c>).</exception>
    public TransferPolicy TransferPolicy
    {
        get;
        init => field = Enum.IsDefined(value)
            ? value
            : throw new DmaBufIoException(Errno.EINVAL, "Rings", nameof(TransferPolicy), $"'{value}' is no transfer policy", "Give Direct or AllowBounce");
    }

    /// <summary>
    /// Bytes of the pool that bounced requests go through, whole pages, one page to 1 GiB; 1 MiB by default. Allocated when the first request needs it, and cut into eight pieces: so many requests
    /// are under way through it at a time, and the others wait. A piece holds at least one block of the file.
    /// </summary>
    /// <exception cref="DmaBufIoException">Not whole pages, or out of the range (<c>EINVAL</c>).</exception>
    public long BouncePoolSize
    {
        get;
        init => field = value > 0 && value <= 1 << 30 && value % MemoryRegion.PageSize == 0
            ? value
            : throw new DmaBufIoException(
                Errno.EINVAL, "Rings", nameof(BouncePoolSize), $"{value} bytes are not whole pages of {MemoryRegion.PageSize} up to 1 GiB", "Round the size to whole pages");
    }
    = 1 << 20;

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
    /// <exception cref="DmaBufIoException">Not positive (<c>EINVAL</c>).</exception>
    public TimeSpan HealthCheckInterval
    {
        get;
        init => field = value > TimeSpan.Zero || value == Timeout.InfiniteTimeSpan
            ? value
            : throw new DmaBufIoException(Errno.EINVAL, "Rings", nameof(HealthCheckInterval), $"{value} is not positive", "Give a positive time, or Timeout.InfiniteTimeSpan");
    }
    = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// How long awaited requests may take to be issued, for those that do not say (<see cref="Ring.ReadFixedAsync(Files.IoFile, int, long, long, long, TimeSpan, CancellationToken)"/> tells
    /// what that means and what it does not): positive, up to 24 days, or <see cref="Timeout.InfiniteTimeSpan"/>, which is the default.
    /// </summary>
    /// <exception cref="DmaBufIoException">Not positive, or too long (<c>EINVAL</c>).</exception>
    public TimeSpan RequestTimeout
    {
        get;
        init => field = (value > TimeSpan.Zero && value <= LongestTimeout) || value == Timeout.InfiniteTimeSpan
            ? value
            : throw new DmaBufIoException(
                Errno.EINVAL, "Rings", nameof(RequestTimeout), $"{value} is not positive or longer than {LongestTimeout}", "Give a positive time, or Timeout.InfiniteTimeSpan");
    }
    = Timeout.InfiniteTimeSpan;

    /// <summary>The clock by which requests run out of time; looked at only when there are requests with a timeout.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;

    /// <summary>The rings that this one is counted among from its making to its disposal; null for none. A host's options name the host's own.</summary>
    public RingGroup? Group { get; init; }

    /// <summary>
    /// True: the ring has a thread of its own that submits and reaps, for an application that only awaits. Then the awaitable calls,
    /// registering and removing may come from any thread, continuations run on the thread pool, and the plain requests, <c>Submit</c>,
    /// <c>Reap</c> and <c>Drive</c> are refused (<see cref="InvalidOperationException"/>). The thread polls, or waits for interrupts (<see cref="Completion"/>),
    /// while requests are outstanding, for a moment longer, and then sleeps until one comes.
    /// </summary>
    public bool DriverThread { get; init; }

    // What a timer of the platform takes.
    internal static TimeSpan LongestTimeout => TimeSpan.FromMilliseconds(int.MaxValue);
}
