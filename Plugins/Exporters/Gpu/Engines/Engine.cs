using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Sync;

namespace DmaBufIo.Exporters.Gpu.Engines;

/// <summary>What an engine does: waits for the fences of what comes before, works, signals its own.</summary>
/// <param name="fence">Signals when it has ended.</param>
/// <param name="before">Fences that must have signalled before it begins.</param>
/// <param name="work">The work; takes no reservation lock (F3).</param>
internal sealed class EngineJob(DmaFence fence, IReadOnlyList<DmaFence> before, Action work)
{
    internal DmaFence Fence { get; } = fence;

    internal IReadOnlyList<DmaFence> Before { get; } = before;

    internal Action Work { get; } = work;

    /// <summary>What follows when the fence has signalled, or null: gives references back.</summary>
    internal Action? Afterwards { get; init; }

    /// <summary>Told before the fence signals when the work has thrown.</summary>
    internal Action<Exception>? Failed { get; init; }
}

/// <summary>An engine of the GPU: does jobs one after the other, on a thread of its own.</summary>
/// <remarks>
/// A job waits only for fences that were published before it, and was queued before its own fence was published, under the same locks: whatever it waits for stands before it in some queue,
/// or is a request that ends by itself. So engines cannot wait for each other in a circle, and everybody may wait for their fences with reservation locks held (F3, F4).
/// </remarks>
internal sealed class Engine : IDisposable
{
    private readonly string _name;
    private readonly Lock _lock = new();
    private readonly Queue<EngineJob> _jobs = new();
    private readonly WaitQueue _work = new();
    private readonly long _timeline = DmaFence.NewContext();
    private long _sequence;
    private volatile bool _stopping;
    private volatile bool _isHeld;

    internal Engine(string name)
    {
        _name = name;
        new Thread(Run) { Name = name, IsBackground = true }.UnsafeStart();
    }

    /// <summary>True: the next job waits. For tests that put something between two steps.</summary>
    internal bool IsHeld
    {
        get => _isHeld;
        set
        {
            _isHeld = value;
            _work.WakeAll();
        }
    }

    /// <summary>A fence for the next job of this engine. Made with the reservation locks held that the job's fence is published under, and used (F1).</summary>
    internal DmaFence NewFence() => new(_name, _timeline, Interlocked.Increment(ref _sequence));

    /// <summary>Queues a job. Called before its fence is published, with the same locks held.</summary>
    internal void Queue(EngineJob job)
    {
        lock (_lock)
            _jobs.Enqueue(job);
        _work.WakeAll();
    }

    /// <summary>Ends the thread when what is queued is done. Does not wait for it: it may be the caller.</summary>
    public void Dispose()
    {
        _stopping = true;
        _work.WakeAll();
    }

    private void Run()
    {
        while (true)
        {
            _work.Wait(() => (HasJob && !_isHeld) || (_stopping && !HasJob), new WaitReason($"work of {_name}") { IsIdle = true });
            if (!RunNext())
                return;
        }
    }

    private bool HasJob
    {
        get
        {
            lock (_lock)
                return _jobs.Count != 0;
        }
    }

    // A method of its own: the stack of a thread that waits keeps nothing of a finished job alive.
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private bool RunNext()
    {
        EngineJob? job;
        lock (_lock)
        {
            if (!_jobs.TryDequeue(out job))
                return false;
        }

        foreach (DmaFence fence in job.Before)
            fence.Wait();
        try
        {
            job.Work();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            DmaBufIoDiagnostics.Report(new DriverFault($"a job of {_name}", e));
            job.Failed?.Invoke(e);
        }

        job.Fence.Signal();
        try
        {
            job.Afterwards?.Invoke();
        }
        catch (InvalidOperationException e)
        {
            // The last reference on a buffer that somebody is still attached to: who dropped the one before has broken the rule, and cannot be told.
            DmaBufIoDiagnostics.Report(new DriverFault($"after a job of {_name}", e));
        }

        return true;
    }
}
