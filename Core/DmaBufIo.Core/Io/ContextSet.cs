namespace DmaBufIo.Io;

/// <summary>The contexts that have queues open on a device, so that whoever changes or removes it can be sure that no owner is in the middle of a batch on it. Any thread.</summary>
public sealed class ContextSet
{
    private readonly Lock _lock = new();
    private readonly List<IoContext> _contexts = [];

    /// <summary>A context has opened a queue.</summary>
    /// <param name="context">The context; once per queue.</param>
    public void Add(IoContext context)
    {
        lock (_lock)
            _contexts.Add(context);
    }

    /// <summary>A queue was closed.</summary>
    /// <param name="context">Its context.</param>
    public void Remove(IoContext context)
    {
        lock (_lock)
            _contexts.Remove(context);
    }

    /// <summary>
    /// Visits each context once (<see cref="IoContext.Visit"/>): when it returns, every owner has left the batch that it was in, and sees in the next one what the caller has written before, as do owners whose queue
    /// is opened meanwhile. May sleep; not in completion context, nor while holding a map reference.
    /// </summary>
    public void VisitAll()
    {
        IoContext[] contexts;
        lock (_lock)
            contexts = [.. _contexts];
        foreach (IoContext context in contexts)
            context.Visit(static () => { });
    }
}
