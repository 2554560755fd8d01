using System.Threading.Tasks.Sources;
using DmaBufIo.Files;

namespace DmaBufIo.Rings;

/// <summary>
/// What an awaiter of one request waits on. Pooled: it goes back to its pool when the result is taken, which a
/// <see cref="ValueTask{TResult}"/> allows once; a second look at the same one is noticed by its version.
/// </summary>
internal sealed class AsyncRequest : IValueTaskSource<IoStatus>
{
    private readonly AsyncRequestPool _pool;
    private ManualResetValueTaskSourceCore<IoStatus> _core; // mutable struct: not readonly

    internal AsyncRequest(AsyncRequestPool pool, bool continueElsewhere)
    {
        _pool = pool;
        _core.RunContinuationsAsynchronously = continueElsewhere;
    }

    /// <summary>The next one in the pool.</summary>
    internal AsyncRequest? Next { get; set; }

    /// <summary>Ends the request if it is cancelled before it was issued.</summary>
    internal CancellationToken Cancellation { get; set; }

    /// <summary>The moment, on the ring's clock, from which on the request ends if it was not issued; <see cref="NoDeadline"/> for none.</summary>
    internal long Deadline { get; set; } = NoDeadline;

    /// <summary>No deadline: later than any moment.</summary>
    internal static long NoDeadline => long.MaxValue;

    /// <summary>True when it may end before it is issued.</summary>
    internal bool MayEndEarly => Deadline != NoDeadline || Cancellation.CanBeCanceled;

    /// <summary>How often it has waited for a map and made place for others.</summary>
    internal int MapWaits { get; set; }

    /// <summary>Set by the ring when the request has ended, before <see cref="Complete"/>.</summary>
    internal IoStatus Result { get; set; }

    /// <summary>What is asked for, on its way to a ring's driver thread.</summary>
    internal AsyncCall Call { get; set; }

    internal ValueTask<IoStatus> Task => new(this, _core.Version);

    /// <summary>
    /// Runs the continuation, or lets it be run. It may take the result at once, so this is the last that the caller does with the object.
    /// </summary>
    internal void Complete() => _core.SetResult(Result);

    IoStatus IValueTaskSource<IoStatus>.GetResult(short token)
    {
        IoStatus result = _core.GetResult(token);
        _core.Reset();
        _pool.Return(this);
        return result;
    }

    ValueTaskSourceStatus IValueTaskSource<IoStatus>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<IoStatus>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}

/// <summary>The arguments of an awaited request.</summary>
internal readonly record struct AsyncCall(RingOperation Operation, IoFile File, int Slot, long BufferOffset, long Length, long FileOffset);
