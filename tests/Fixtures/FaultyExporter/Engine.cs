using DmaBufIo.DmaBufs;
using DmaBufIo.Sync;

namespace DmaBufIo.Fixtures.FaultyExporter;

/// <summary>What an engine does.</summary>
/// <param name="Fence">Signals when it has been done.</param>
/// <param name="Before">What must have signalled first.</param>
/// <param name="Work">The work; takes no reservation lock (F3).</param>
/// <param name="Afterwards">What follows when the fence has signalled.</param>
internal sealed record EngineJob(DmaFence Fence, DmaFence[] Before, Action Work, Action Afterwards);

/// <summary>Counts the fences of a timeline.</summary>
internal sealed class Timeline
{
    private long _sequence;

    internal long Context { get; } = DmaFence.NewContext();

    internal DmaFence Next(string signaller) => new(signaller, Context, Interlocked.Increment(ref _sequence));
}

/// <summary>Does jobs one after the other, on a thread of its own, and signals their fences in that order.</summary>
internal sealed class Engine : IDisposable
{
    private readonly string _name;
    private readonly Timeline _timeline;
    private readonly Lock _lock = new();
    private readonly List<EngineJob> _jobs = [];
    private readonly WaitQueue _work = new();
    private readonly bool _lastFirst;
    private volatile bool _stopping;

    internal Engine(string name, Timeline timeline, bool lastFirst)
    {
        _name = name;
        _timeline = timeline;
        _lastFirst = lastFirst;
        new Thread(Run) { Name = name, IsBackground = true }.UnsafeStart();
    }

    internal DmaFence NewFence() => _timeline.Next(_name);

    internal void Queue(EngineJob job)
    {
        lock (_lock)
            _jobs.Add(job);
        _work.WakeAll();
    }

    public void Dispose()
    {
        _stopping = true;
        _work.WakeAll();
    }

    private void Run()
    {
        do
        {
            _work.Wait(() => _stopping || HasJob(), new WaitReason($"work of {_name}") { IsIdle = true });
        }
        while (RunNext());
    }

    private bool HasJob()
    {
        lock (_lock)
            return _jobs.Count != 0;
    }

    // A method of its own: the stack of a thread that waits keeps nothing of a finished job alive.
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private bool RunNext()
    {
        EngineJob job;
        lock (_lock)
        {
            if (_jobs.Count == 0)
                return !_stopping;
            int next = _lastFirst ? _jobs.Count - 1 : 0;
            job = _jobs[next];
            _jobs.RemoveAt(next);
        }

        // Those of the own timeline come in order anyway.
        foreach (DmaFence fence in job.Before)
        {
            if (fence.Context != _timeline.Context)
                fence.Wait();
        }

        job.Work();
        job.Fence.Signal();
        job.Afterwards();
        return true;
    }
}
