namespace DmaBufIo.Cli.Benching;

/// <summary>
/// Lets lanes work and rest together. While they rest nothing is in flight anywhere, so that what is counted then is exact.
/// </summary>
/// <remarks>
/// Lanes: work until <see cref="IsOver"/>, drain, <see cref="Rest"/>; and again. The conductor: wait, <see cref="End"/>, count,
/// <see cref="Resume"/>.
/// </remarks>
internal sealed class BenchPhases : IDisposable
{
    private readonly Barrier _barrier;
    private readonly ManualResetEvent _ended = new(initialState: false);
    private readonly int _lanes;
    private int _finished;
    private volatile bool _over;

    /// <summary>Creates the phases of a run.</summary>
    /// <param name="lanes">How many work.</param>
    /// <param name="isOver">The first stretch is left out.</param>
    internal BenchPhases(int lanes, bool isOver)
    {
        _lanes = lanes;
        _over = isOver;
        _barrier = new Barrier(lanes + 1);
    }

    /// <summary>True when lanes shall drain and rest.</summary>
    internal bool IsOver => _over;

    /// <summary>A lane has drained: waits until it may go on.</summary>
    internal void Rest()
    {
        _barrier.SignalAndWait();
        _barrier.SignalAndWait();
    }

    /// <summary>A lane has made all the requests it was to make.</summary>
    internal void Finished()
    {
        if (Interlocked.Increment(ref _finished) == _lanes)
            _ended.Set();
    }

    /// <summary>Something went wrong: all lanes drain.</summary>
    internal void Stop()
    {
        _over = true;
        _ended.Set();
    }

    /// <summary>The conductor waits until the time has passed, all have finished, or the run is stopped or cancelled.</summary>
    /// <returns>True when the time has passed.</returns>
    internal bool Wait(TimeSpan time, CancellationToken cancellationToken) =>
        WaitHandle.WaitAny([_ended, cancellationToken.WaitHandle], time) == WaitHandle.WaitTimeout;

    /// <summary>Ends the stretch: returns when all lanes rest.</summary>
    internal void End()
    {
        _over = true;
        _barrier.SignalAndWait();
    }

    /// <summary>Lets the lanes go on; when <paramref name="idle"/>, they only drain and rest again.</summary>
    internal void Resume(bool idle)
    {
        _over = idle;
        _barrier.SignalAndWait();
    }

    public void Dispose()
    {
        _barrier.Dispose();
        _ended.Dispose();
    }
}
