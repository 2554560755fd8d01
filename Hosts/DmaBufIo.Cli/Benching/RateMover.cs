using System.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Benching;

/// <summary>
/// Moves the buffer so many times per second, on a thread of its own, while requests go on. What it falls behind it does not make up for
/// later.
/// </summary>
internal sealed class RateMover : IDisposable
{
    private readonly IMovableBuffers _exporter;
    private readonly DmaBuf _buffer;
    private readonly double _interval;
    private readonly Action _failed;
    private readonly ManualResetEvent _stopping = new(initialState: false);
    private readonly Thread _thread;
    private long _moves;
    private long _underLoad;

    internal RateMover(IMovableBuffers exporter, DmaBuf buffer, double perSecond, Action failed)
    {
        _exporter = exporter;
        _buffer = buffer;
        _interval = Stopwatch.Frequency / perSecond;
        _failed = failed;
        _thread = new Thread(Work) { Name = "mover", IsBackground = true };
        _thread.Start();
    }

    /// <summary>What ended the thread, or null.</summary>
    internal DmaBufIoException? Failure { get; private set; }

    /// <summary>Held during a move: no move is under way for whoever holds it.</summary>
    internal Lock Moving { get; } = new();

    /// <summary>Moves so far, and how many of them hit a map that requests were using. Read with <see cref="Moving"/> held.</summary>
    internal (long Moves, long UnderLoad) Counts => (_moves, _underLoad);

    /// <summary>Ends the thread. Idempotent.</summary>
    public void Dispose()
    {
        if (!_thread.IsAlive && _stopping.SafeWaitHandle.IsClosed)
            return;
        _stopping.Set();
        _thread.Join();
        _stopping.Dispose();
    }

    private void Work()
    {
        try
        {
            double due = Stopwatch.GetTimestamp();
            while (!_stopping.WaitOne(0))
            {
                due = Math.Max(due, Stopwatch.GetTimestamp() - _interval) + _interval;
                if (WaitUntil(due))
                    return;
                lock (Moving)
                {
                    InvalidationReport report = _exporter.Move(_buffer);
                    _moves++;
                    if (report.Users > 0)
                        _underLoad++;
                }
            }
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Failure = BenchJob.AsFailure(e);
            _failed();
        }
    }

    // Whole milliseconds are slept, the rest is yielded: the system's timer is too coarse for thousands of moves per second.
    private bool WaitUntil(double due)
    {
        while (true)
        {
            double milliseconds = (due - Stopwatch.GetTimestamp()) * 1000 / Stopwatch.Frequency;
            if (milliseconds <= 0)
                return false;
            if (milliseconds >= 2)
            {
                if (_stopping.WaitOne((int)milliseconds - 1))
                    return true;
            }
            else
            {
                Thread.Yield();
            }
        }
    }
}
