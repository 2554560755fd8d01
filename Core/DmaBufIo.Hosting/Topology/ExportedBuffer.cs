using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting;

/// <summary>
/// A buffer made from an exporter expression. Disposing drops the one reference it holds; registrations and tokens keep theirs.
/// </summary>
public sealed class ExportedBuffer : IDisposable
{
    private readonly Action<ExportedBuffer> _closed;
    private DmaBuf? _buffer;
    private IExporterFactory? _factory;

    internal ExportedBuffer(
        DeviceExpression expression,
        string plugin,
        DmaBuf buffer,
        IExporterFactory factory,
        Action<ExportedBuffer> closed)
    {
        Expression = expression;
        PluginName = plugin;
        Name = buffer.Name;
        CanMove = factory.CanMove;
        _buffer = buffer;
        _factory = factory;
        _closed = closed;
    }

    /// <summary>The expression it was made from.</summary>
    public DeviceExpression Expression { get; }

    /// <summary>The plugin that made it.</summary>
    public string PluginName { get; }

    /// <summary>The buffer's name.</summary>
    public string Name { get; }

    /// <summary>True when the exporter can move the buffer on demand.</summary>
    public bool CanMove { get; }

    /// <summary>The buffer; valid until this object is disposed, longer only for those who take a reference of their own.</summary>
    /// <exception cref="ObjectDisposedException">This object was disposed.</exception>
    public DmaBuf Buffer => _buffer ?? throw new ObjectDisposedException(
        nameof(ExportedBuffer),
        $"The reference to buffer {Name} was dropped.");

    /// <summary>Moves buffers of this exporter; null when it cannot.</summary>
    public IMovableBuffers? Mover => CanMove ? _factory as IMovableBuffers : null;

    /// <summary>Works on buffers of this exporter where they lie; null when it cannot.</summary>
    public IComputeBuffers? Compute => _factory as IComputeBuffers;

    /// <summary>Puts the memory that the buffer lies in under pressure; null when the exporter cannot.</summary>
    public IPressableBuffers? Presser => _factory as IPressableBuffers;

    /// <summary>Moves the buffer to other memory (F7): see <see cref="IMovableBuffers.Move"/> for what must not be held.</summary>
    /// <param name="cancellationToken">Interrupts the wait for the reservation lock.</param>
    /// <returns>How many maps were killed and how many requests were using them.</returns>
    /// <exception cref="DmaBufIoException">The exporter never moves (<c>EOPNOTSUPP</c>).</exception>
    public InvalidationReport Move(CancellationToken cancellationToken = default) =>
        Mover is IMovableBuffers mover ? mover.Move(Buffer, cancellationToken)
        : throw new DmaBufIoException(
            Errno.EOPNOTSUPP,
            "Topology",
            Name,
            $"exporter '{Expression.Word}' never moves its buffers",
            "Use an exporter that moves, for example 'moving'",
            rule: "F7");

    /// <summary>Drops the reference; the last one frees the memory. Not in completion context. Idempotent.</summary>
    public void Dispose()
    {
        DmaBuf? buffer = Interlocked.Exchange(ref _buffer, null);
        if (buffer is null)
            return;
        _factory = null;
        try
        {
            buffer.Put();
        }
        finally
        {
            _closed(this);
        }
    }
}
