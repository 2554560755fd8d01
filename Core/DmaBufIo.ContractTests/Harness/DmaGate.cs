using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A gate before the DMA of a device with a thread of its own, through which its owner lets one at a time while it sleeps: every completion falls between a look and a sleep. What the
/// owner's own thread does, as a device without a thread has it, is let through.
/// </summary>
internal sealed class DmaGate : IDisposable
{
    private readonly PuppetFabric _fabric;
    private readonly SemaphoreSlim _permits = new(0);
    private volatile int _owner = Environment.CurrentManagedThreadId;
    private int _waiting;
    private volatile bool _gone;

    /// <summary>Puts a gate before all DMA to memory of a name; the caller's thread is the owner.</summary>
    internal DmaGate(PuppetFabric fabric, string memory)
    {
        _fabric = fabric;
        fabric.OnDma = dma =>
        {
            if (dma.Purpose != memory || Environment.CurrentManagedThreadId == _owner || _gone)
                return Errno.Ok;
            Interlocked.Increment(ref _waiting);
            _permits.Wait();
            Interlocked.Decrement(ref _waiting);
            return Errno.Ok;
        };
    }

    /// <summary>The caller's thread is the owner from now on.</summary>
    internal void Own() => _owner = Environment.CurrentManagedThreadId;

    /// <summary>Lets one DMA that waits go on.</summary>
    /// <returns>False when none waits.</returns>
    internal bool Pass()
    {
        if (Volatile.Read(ref _waiting) == 0 || _permits.CurrentCount != 0)
            return false;
        _permits.Release();
        return true;
    }

    /// <summary>Looks for a while whether the device comes to the gate: how often it does decides how much is found, never what passes.</summary>
    internal void Await()
    {
        for (int i = 0; i < 200 && Volatile.Read(ref _waiting) == 0; i++)
            Thread.Yield();
    }

    public void Dispose()
    {
        _gone = true;
        _fabric.OnDma = null;
        _permits.Release(1 << 16);
    }
}
