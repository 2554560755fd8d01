using System.Diagnostics;
using System.Runtime.ExceptionServices;
using DmaBufIo.Diagnostics;

namespace DmaBufIo.ContractTests;

/// <summary>Actors on real threads.</summary>
internal sealed class ThreadActors : IActors
{
    private readonly List<Actor> _started = [];

    public void Run(params ReadOnlySpan<(string Name, Action Body)> actors)
    {
        var running = new List<Actor>(actors.Length);
        foreach ((string name, Action body) in actors)
            running.Add(new Actor(name, body));
        foreach (Actor actor in running)
            actor.WaitForEnd();
        foreach (Actor actor in running)
            actor.Rethrow();
    }

    public IActor Start(string name, Action body)
    {
        var actor = new Actor(name, body);
        lock (_started)
            _started.Add(actor);
        return actor;
    }

    /// <summary>Waits for those that nobody has joined.</summary>
    internal void JoinAll()
    {
        Actor[] started;
        lock (_started)
            started = [.. _started];
        foreach (Actor actor in started)
            actor.Join();
    }

    /// <summary>Waits for those that nobody has joined, whatever becomes of them.</summary>
    /// <returns>False when one has not returned within the limit.</returns>
    internal bool WaitForAll() => _started.TrueForAll(static actor => actor.TryWaitForEnd());

    private sealed class Actor : IActor
    {
        // A wait that is going to end by itself does so sooner: threads wait for a moment all the time.
        private static readonly TimeSpan s_stays = TimeSpan.FromMilliseconds(20);

        // A wait outside Sync, for a thread of the plugin's for example, has no start that could be asked for: it is one when it is seen every time that anybody looks, for this long.
        private static readonly TimeSpan s_staysElsewhere = TimeSpan.FromMilliseconds(500);
        private readonly Thread _thread;
        private readonly string _name;
        private Exception? _failure;
        private volatile bool _ended;

        internal Actor(string name, Action body)
        {
            // Unique: a snapshot tells by the thread's name what this actor waits for.
            _name = $"{name} {Guid.NewGuid():N}";
            _thread = new Thread(() => Guard(body)) { Name = _name, IsBackground = true };
            _thread.Start();
        }

        public bool HasEnded => _ended;

        public void Join()
        {
            WaitForEnd();
            Rethrow();
        }

        public bool UntilBlocked()
        {
            long started = Stopwatch.GetTimestamp();
            long ran = started;
            var spin = default(SpinWait);
            while (!HasEnded)
            {
                if (DmaBufIoDiagnostics.Snapshot().Waits.Any(w => w.Thread == _name && w.Waited >= s_stays))
                    return true;
                if ((_thread.ThreadState & System.Threading.ThreadState.WaitSleepJoin) == 0)
                    ran = Stopwatch.GetTimestamp();
                if (Stopwatch.GetElapsedTime(ran) >= s_staysElsewhere)
                    return true;
                if (Stopwatch.GetElapsedTime(started) > Hang.Limit)
                    throw Hang.Of(_name);
                spin.SpinOnce();
            }

            Rethrow();
            return false;
        }

        internal bool TryWaitForEnd() => _thread.Join(Hang.Limit);

        internal void WaitForEnd()
        {
            if (!_thread.Join(Hang.Limit))
                throw Hang.Of(_name);
        }

        internal void Rethrow()
        {
            if (Interlocked.Exchange(ref _failure, null) is { } failure)
                ExceptionDispatchInfo.Throw(failure);
        }

        private void Guard(Action body)
        {
            try
            {
                body();
            }
            catch (Exception e)
            {
                // Rethrown where the actor is joined.
                _failure = e;
            }
            finally
            {
                _ended = true;
            }
        }
    }
}
