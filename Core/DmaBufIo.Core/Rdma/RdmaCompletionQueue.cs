namespace DmaBufIo.Rdma;

/// <summary>
/// Where work requests of one or several queue pairs end. Polled by one thread at a time. It cannot overflow: queue pairs take their depth of it when they are made.
/// </summary>
public abstract class RdmaCompletionQueue : IDisposable
{
    /// <summary>How many completions it holds.</summary>
    public abstract int Capacity { get; }

    /// <summary>Takes completions. Does not sleep. Of one queue pair and direction they come in the order of posting; when one is there, the data is where the CPU sees it, and no map is kept for it (T18).</summary>
    /// <param name="completions">Where they go.</param>
    /// <returns>How many.</returns>
    public abstract int Poll(Span<RdmaCompletion> completions);

    /// <summary>Asks the device to interrupt. Called at most once, before the first request.</summary>
    /// <param name="handler">Called on any thread, in completion context: it does not block. For every completion a call begins after <see cref="Poll"/> would find it.</param>
    /// <returns>False when the device has no thread that could call: the queue can only be polled.</returns>
    public abstract bool TryEnableInterrupts(Action handler);

    /// <summary>Ends the queue. Idempotent.</summary>
    /// <exception cref="Errors.DmaBufIoException">Queue pairs use it (<c>EBUSY</c>).</exception>
    public abstract void Dispose();
}
