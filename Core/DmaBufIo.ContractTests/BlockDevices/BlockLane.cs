using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>What a ring does, reduced to bios: a context, its pool, a queue, and an account of how often each bio has ended and how. Used by one thread at a time, and by visitors.</summary>
internal sealed class BlockLane : IBioOwner, IPollable, IDisposable
{
    private readonly ContractWorld _world;
    private readonly List<BlockRequest> _requests = [];
    private readonly int _owner;
    private int _open;
    private int _strays;
    private bool _closed;

    internal BlockLane(ContractWorld world, BlockDevice device, int depth, int pool = 512)
    {
        _world = world;
        Context = new IoContext("contract");
        Bios = new BioPool(pool);
        _owner = Bios.AddOwner(this);
        try
        {
            Queue = device.OpenQueue(Context, Bios, depth);
        }
        catch
        {
            Context.Dispose();
            Bios.Dispose();
            throw;
        }

        Context.AddPollable(this);
    }

    internal IoContext Context { get; }

    internal BioPool Bios { get; }

    internal BlockQueue Queue { get; }

    /// <summary>Bios that were taken and have not ended. Any thread.</summary>
    internal int InFlight => Volatile.Read(ref _open);

    /// <summary>All that were taken, in order.</summary>
    internal IReadOnlyList<BlockRequest> Requests => _requests;

    /// <summary>Why the last submission that needed a map had none.</summary>
    internal Errno LastMapStatus { get; private set; }

    /// <summary>Submits bios in one call, without a commit. What is not taken leaves nothing behind.</summary>
    /// <returns>How many were taken; 0 as well when no map could be made (<see cref="LastMapStatus"/>).</returns>
    internal int Submit(params ReadOnlySpan<BioPlan> plans)
    {
        LastMapStatus = Errno.Ok;
        var given = new BioHandle[plans.Length];
        int first = _requests.Count;
        Context.Enter();
        try
        {
            int count = 0;
            foreach (BioPlan plan in plans)
            {
                DmaMap? map = null;
                if (plan.Token is { } token && !TryMap(token, out map))
                    break;
                if (!TryAllocate(plan, map, first + count, out given[count]))
                {
                    Drop(map);
                    break;
                }

                _requests.Add(new BlockRequest(plan, map));
                count++;
            }

            return Give(given.AsSpan(0, count), first);
        }
        finally
        {
            Context.Leave();
        }
    }

    internal void Commit()
    {
        Context.Enter();
        try
        {
            _world.Expect("L4", "when Commit was called", () =>
            {
                Queue.Commit();
                return true;
            });

            // A device may have ended them already.
            Bios.Dispatch();
        }
        finally
        {
            Context.Leave();
        }
    }

    internal int Room()
    {
        Context.Enter();
        int room = Queue.Room;
        Context.Leave();
        return room;
    }

    /// <summary>Polls once.</summary>
    /// <returns>What the queue has answered.</returns>
    internal int Poll(int max = int.MaxValue)
    {
        Context.Enter();
        try
        {
            int count = _world.Expect("L4", "when it was polled", () => Queue.Poll(max));
            Bios.Dispatch();
            return count;
        }
        finally
        {
            Context.Leave();
        }
    }

    /// <summary>Commits, and polls until nothing is in flight; each bio has ended once then.</summary>
    internal void Finish(string rule = "N8")
    {
        Commit();
        _world.Eventually(
            () => Poll() >= 0 && InFlight == 0,
            rule,
            $"{InFlight} of {_requests.Count} bios have not ended, for example a {_requests.Find(static r => r.Ends == 0)}.");
        CheckEndedOnce(rule);
    }

    /// <summary>No bio has ended twice (N8), and none that was not taken (Q1).</summary>
    internal void CheckEndedOnce(string rule = "N8")
    {
        _world.Check(_world.SecondEnd is null, rule, "a bio has ended that was not in flight.");
        _world.Check(_strays == 0, "Q1", $"{_strays} bios have ended that Submit had not taken.");
        foreach (BlockRequest request in _requests)
            _world.Check(request.Ends <= 1, rule, $"a {request} has ended {request.Ends} times.");
    }

    /// <summary>Submits bios and finishes them, as many at a time as the queue takes; each must end well.</summary>
    internal void Do(string rule, params ReadOnlySpan<BioPlan> plans)
    {
        int first = _requests.Count;
        while (plans.Length > 0)
        {
            int taken = Submit(plans[..Math.Min(plans.Length, Bios.Free)]);
            _world.Check(taken > 0 || LastMapStatus == Errno.Ok, rule, $"no map could be made for a {plans[0]}: {LastMapStatus}.");
            if (taken == 0)
                TakeLater(plans[0]);
            plans = plans[Math.Max(1, taken)..];
            Finish();
        }

        foreach (BlockRequest request in _requests.Skip(first))
            _world.Check(request.Status == Errno.Ok, rule, $"a {request} ended with {request.Status}.");
    }

    /// <summary>How one bio ends.</summary>
    internal Errno Try(in BioPlan plan)
    {
        if (Submit(plan) == 0)
        {
            if (LastMapStatus != Errno.Ok)
                return LastMapStatus;
            TakeLater(plan);
        }

        Finish();
        return _requests[^1].Status;
    }

    void IBioOwner.BioEnded(BioHandle bio)
    {
        int number = (int)Bios[bio].Cookie;
        if (number >= _requests.Count)
        {
            _strays++;
            return;
        }

        BlockRequest request = _requests[number];
        request.Status = Bios[bio].Status;
        if (++request.Ends != 1)
            return; // the place is given back once, whatever the driver does
        Drop(request.Map);
        request.Map = null;
        Bios.Release(bio);
        Volatile.Write(ref _open, _open - 1);
    }

    void IPollable.PollAsVisitor()
    {
        Queue.Poll(int.MaxValue);
        Bios.Dispatch();
    }

    /// <summary>A fact has found something: what is in flight is forgotten, so that its device can be closed, and the queue is left alone.</summary>
    internal void Abandon()
    {
        if (_closed)
            return;
        _closed = true;
        try
        {
            // An actor of the fact may be inside still.
            Hang.Until(() => !Context.IsActive);
            Context.RemovePollable(this);
            Context.Enter();
            foreach (BlockRequest request in _requests)
            {
                Drop(request.Map);
                request.Map = null;
            }

            Context.Leave();
            if (InFlight == 0)
                Queue.Dispose();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // The fact has found something already; that is what is told.
        }
    }

    public void Dispose()
    {
        if (_closed)
            return;
        _closed = true;
        Context.RemovePollable(this);
        Queue.Dispose();
        Context.Dispose();
        Bios.Dispose();
    }

    private void Drop(DmaMap? map)
    {
        if (map is not null)
            DmaBufToken.Drop(map, Context);
    }

    // The context is entered before and after.
    private bool TryMap(DmaBufToken token, out DmaMap? map)
    {
        map = token.TryGetMap(Context);
        if (map is not null)
            return true;
        Context.Leave();
        LastMapStatus = token.GetMap(Context, out map);
        if (LastMapStatus != Errno.Ok)
            Context.Enter();
        return LastMapStatus == Errno.Ok;
    }

    private bool TryAllocate(in BioPlan plan, DmaMap? map, int cookie, out BioHandle bio) =>
        plan.Operation == BioOperation.Flush ? Bios.TryAllocateFlush(out bio, _owner, cookie)
        : map is null ? Bios.TryAllocate(plan.Operation, new Memory.MemoryRange(plan.Pages!, plan.Offset, plan.Size), plan.Sector, out bio, _owner, cookie)
        : Bios.TryAllocate(plan.Operation, map, plan.Offset, plan.Size, plan.Sector, out bio, _owner, cookie);

    private int Give(ReadOnlySpan<BioHandle> bios, int first)
    {
        int taken = 0;
        try
        {
            Volatile.Write(ref _open, _open + bios.Length);
            int answered = Queue.Submit(bios);
            taken = Math.Clamp(answered, 0, bios.Length);
            _world.Check(answered == taken, "Q1", $"Submit was given {bios.Length} bios and answered that it has taken {answered}.");
            return taken;
        }
        catch (Exception e) when (e is not BrokenRuleException and not OutOfMemoryException)
        {
            throw _world.Broken("L4", $"Submit threw {e.GetType().Name}: {e.Message}", e);
        }
        finally
        {
            Volatile.Write(ref _open, _open - (bios.Length - taken));
            foreach (BlockRequest request in _requests.Skip(first + taken))
                Drop(request.Map);
            _requests.RemoveRange(first + taken, _requests.Count - first - taken);
            Bios.Release(bios[taken..]);
            Bios.Dispatch();
        }
    }

    // Room may come when others have finished, or a reset is over.
    private void TakeLater(BioPlan plan) => _world.Eventually(
        () => Poll() >= 0 && Submit(plan) == 1,
        "Q1",
        $"the queue does not take a {plan} although nothing is in flight.");
}
