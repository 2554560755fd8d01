using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tests.Harness;

/// <summary>What a ring does, reduced to bios: a context, its pool, a queue, and an account of how often each request ended and
/// how.</summary>
internal sealed class Lane : IBioOwner, IPollable, IDisposable
{
    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(30);
    private readonly Errno[] _status;
    private readonly int[] _ends;
    private readonly BioHandle[] _one = new BioHandle[1];
    private readonly int _owner;
    private int _pending;

    internal Lane(BlockDevice device, int depth, int pool = 256)
    {
        Context = new IoContext("lane");
        Bios = new BioPool(pool);
        _status = new Errno[pool];
        _ends = new int[pool];
        _owner = Bios.AddOwner(this);
        Queue = device.OpenQueue(Context, Bios, depth);
        Context.AddPollable(this);
    }

    internal IoContext Context { get; }

    internal BioPool Bios { get; }

    internal BlockQueue Queue { get; }

    internal int Pending => _pending;

    /// <summary>How a request ended; meaningful once it has.</summary>
    internal Errno StatusOf(int cookie) => _status[cookie];

    /// <summary>How often a request has ended.</summary>
    internal int EndsOf(int cookie) => _ends[cookie];

    /// <summary>Forgets the account of earlier requests.</summary>
    internal void Forget() => Array.Clear(_ends);

    /// <summary>Takes a map reference for a request, making the map when there is none; the context is entered afterwards.</summary>
    internal DmaMap EnterWithMap(DmaBufToken token)
    {
        Context.Enter();
        DmaMap? map = token.TryGetMap(Context);
        if (map is not null)
            return map;
        Context.Leave();
        Errno status = token.GetMap(Context, out map, TestContext.Current.CancellationToken);
        Assert.True(status == Errno.Ok, $"no map: {status}, {token.LastMapError?.Message}");
        return map!;
    }

    /// <summary>Submits one request on a registered buffer, without commit.</summary>
    /// <returns>False when the queue had no room: nothing is left of the attempt.</returns>
    internal bool TrySubmit(DmaBufToken token, BioOperation operation, long offset, long size, long sector, int cookie)
    {
        DmaMap map = EnterWithMap(token);
        bool taken = Bios.TryAllocate(operation, map, offset, size, sector, out BioHandle bio) && Give(bio, cookie);
        if (!taken)
            DmaBufToken.Drop(map, Context);
        Context.Leave();
        return taken;
    }

    internal bool TrySubmit(BioOperation operation, in MemoryRange memory, long sector, int cookie)
    {
        Context.Enter();
        bool taken = Bios.TryAllocate(operation, memory, sector, out BioHandle bio) && Give(bio, cookie);
        Context.Leave();
        return taken;
    }

    internal bool TrySubmitFlush(int cookie)
    {
        Context.Enter();
        bool taken = Bios.TryAllocateFlush(out BioHandle bio) && Give(bio, cookie);
        Context.Leave();
        return taken;
    }

    internal void Commit()
    {
        Context.Enter();
        Queue.Commit();
        Context.Leave();
    }

    internal int Poll(int max = int.MaxValue)
    {
        Context.Enter();
        int count = Queue.Poll(max);
        Bios.Dispatch();
        Context.Leave();
        return count;
    }

    /// <summary>Commits and polls until no request is in flight.</summary>
    internal void Finish()
    {
        Commit();
        long until = Environment.TickCount64 + (long)s_limit.TotalMilliseconds;
        while (_pending != 0)
        {
            if (Poll() == 0)
            {
                // Not Assert.True: its message would be built each time, and what a request allocates is measured around this.
                if (Environment.TickCount64 > until)
                    Assert.Fail($"{_pending} requests have not ended after {s_limit.TotalSeconds} s.");
                Thread.Yield();
            }
        }
    }

    internal Errno Do(DmaBufToken token, BioOperation operation, long offset, long size, long sector)
    {
        Assert.True(TrySubmit(token, operation, offset, size, sector, 0), "the queue took no bio");
        Finish();
        return _status[0];
    }

    internal Errno Do(BioOperation operation, in MemoryRange memory, long sector)
    {
        Assert.True(TrySubmit(operation, memory, sector, 0), "the queue took no bio");
        Finish();
        return _status[0];
    }

    internal Errno Flush()
    {
        Assert.True(TrySubmitFlush(0), "the queue took no bio");
        Finish();
        return _status[0];
    }

    public void BioEnded(BioHandle bio)
    {
        int cookie = (int)Bios[bio].Cookie;
        _status[cookie] = Bios[bio].Status;
        _ends[cookie]++;
        _pending--;
        if (Bios.MapOf(bio) is { } map)
            DmaBufToken.Drop(map, Context);
        Bios.Release(bio);
    }

    public void PollAsVisitor()
    {
        Queue.Poll(int.MaxValue);
        Bios.Dispatch();
    }

    public void Dispose()
    {
        Context.RemovePollable(this);
        Queue.Dispose();
        Context.Dispose();
        Bios.Dispose();
    }

    private bool Give(BioHandle bio, int cookie)
    {
        Bios[bio].Owner = _owner;
        Bios[bio].Cookie = cookie;
        _one[0] = bio;
        if (Queue.Submit(_one) == 1)
        {
            _pending++;
            return true;
        }

        Bios.Release(bio);
        return false;
    }
}
