using DmaBufIo.DmaBufs;

namespace DmaBufIo.Plugins;

/// <summary>An exporter factory that can put its device's memory under pressure: for proving that requests survive a working set larger than the memory.</summary>
public interface IPressableBuffers
{
    /// <summary>
    /// Other users of the device come, whose buffers together with this one are several times its memory; they work on them, so that buffers are evicted and restored all the time. They check
    /// what their own buffers hold.
    /// </summary>
    /// <param name="buffer">The buffer whose requests are to be disturbed; it is restored after each eviction.</param>
    /// <returns>The pressure; disposing ends it and waits for the users.</returns>
    /// <exception cref="Errors.DmaBufIoException">Not this exporter's buffer (<c>EINVAL</c>), or the device's memory is too small for two (<c>ENOMEM</c>).</exception>
    IMemoryPressure Press(DmaBuf buffer);
}

/// <summary>Pressure on a device's memory, while it lasts. Any thread.</summary>
public interface IMemoryPressure : IDisposable
{
    /// <summary>Buffers moved out of the device's memory so far, those of all users.</summary>
    long Evictions { get; }

    /// <summary>Buffers moved back so far.</summary>
    long Restores { get; }

    /// <summary>Moves of the buffer that is to be disturbed so far, both ways.</summary>
    long Moves { get; }

    /// <summary>Those of them that hit a map which requests were using.</summary>
    long MovesUnderLoad { get; }

    /// <summary>Bytes of all users' buffers together.</summary>
    long WorkingSet { get; }

    /// <summary>What went wrong among the users: a buffer that did not hold what was put there, a thread that failed. Null when nothing did.</summary>
    string? Failure { get; }
}
