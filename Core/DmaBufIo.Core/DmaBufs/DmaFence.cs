using System.Diagnostics;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Sync;

namespace DmaBufIo.DmaBufs;

/// <summary>
/// Something that happens once and that others wait for (the kernel's dma_fence): belongs to a context and has a sequence number in it.
/// </summary>
/// <remarks>
/// Everyone may wait for a fence while holding a reservation lock (F4). So whatever must happen for it to signal takes no reservation lock,
/// allocates nothing and waits for no other fence that could wait for it (F3).
/// </remarks>
public sealed class DmaFence
{
    private static long s_lastContext;
    private readonly WaitQueue _queue = new();
    private readonly Lock _lock = new();
    private volatile Action? _advance;
    private List<Action>? _callbacks;
    private volatile bool _signaled;

    /// <summary>Creates an unsignalled fence. Create it only when it is going to be added (F1).</summary>
    /// <param name="signaller">Who signals it, for snapshots.</param>
    /// <param name="context">Its context, from <see cref="NewContext"/>.</param>
    /// <param name="sequence">Its number in the context; later fences have larger ones.</param>
    /// <param name="advance">
    /// What a waiter can do to bring the signal about, or null when it comes by itself: the counterpart of the kernel's enable_signaling. Called on waiting
    /// threads, again and again, also with reservation locks held; takes none itself (F3).
    /// </param>
    public DmaFence(string signaller, long context, long sequence, Action? advance = null)
    {
        _advance = advance;
        Signaller = signaller;
        Context = context;
        Sequence = sequence;
        Created = Stopwatch.GetTimestamp();
    }

    /// <summary>Who signals it.</summary>
    public string Signaller { get; }

    /// <summary>The timeline it belongs to.</summary>
    public long Context { get; }

    /// <summary>Its place on the timeline.</summary>
    public long Sequence { get; }

    /// <summary>True once it has signalled.</summary>
    public bool IsSignaled => _signaled;

    internal long Created { get; }

    /// <summary>A context that no other fence of this process belongs to.</summary>
    public static long NewContext() => Interlocked.Increment(ref s_lastContext);

    /// <summary>
    /// Signals. Idempotent; does not sleep; callable from completion context. Callbacks run here; what one of them throws is reported
    /// (<see cref="DmaBufIoDiagnostics.DriverFaulted"/>) and stops neither the others nor the request whose end signals the fence.
    /// </summary>
    public void Signal()
    {
        List<Action>? callbacks;
        lock (_lock)
        {
            if (_signaled)
                return;
            _signaled = true;
            callbacks = _callbacks;
            _callbacks = null;
        }

        _advance = null; // it roots the map, and a signalled fence may stay in its reservation object for long
        _queue.WakeAll();
        if (callbacks is not null)
        {
            foreach (Action callback in callbacks)
                Call(callback);
        }
    }

    /// <summary>Calls back once when the fence signals, at once if it has. The callback may not sleep.</summary>
    /// <param name="callback">What to do.</param>
    public void OnSignal(Action callback)
    {
        lock (_lock)
        {
            if (!_signaled)
            {
                (_callbacks ??= []).Add(callback);
                return;
            }
        }

        callback();
    }

    /// <summary>Waits for the signal; may sleep.</summary>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <param name="context">When given, the wait also ends when this acquire context is wounded.</param>
    /// <returns><c>Ok</c>, <c>EINTR</c> when cancelled, <c>EDEADLK</c> when wounded.</returns>
    public Errno Wait(CancellationToken cancellationToken = default, AcquireContext? context = null)
    {
        var reason = new WaitReason($"fence {this}");
        if (_advance is null)
            return _queue.Wait(() => _signaled, reason, cancellationToken, context);
        var wait = new PollingWait(reason);
        while (true)
        {
            _advance?.Invoke();
            Errno status = wait.Pause(_queue, () => _signaled, cancellationToken, context);
            if (status != Errno.EAGAIN)
                return status;
        }
    }

    private void Call(Action callback)
    {
        try
        {
            callback();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            DmaBufIoDiagnostics.Report(new DriverFault($"callback of fence {this}", e));
        }
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Signaller} #{Context}:{Sequence}";
}

/// <summary>What a fence on a reservation object stands for; waiting for a class waits for every fence of that class and the ones before it.</summary>
public enum FenceUsage
{
    /// <summary>Memory management: moving or clearing the memory. Everyone must wait for it.</summary>
    Kernel = 0,

    /// <summary>A job that writes the buffer.</summary>
    Write = 1,

    /// <summary>A job that reads the buffer.</summary>
    Read = 2,

    /// <summary>Only keeps the memory in place.</summary>
    Bookkeep = 3,
}
