using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <summary>Holds up a device in the middle of a request: its DMA to a buffer waits until it is let go on, one by one or for good.</summary>
internal sealed class DmaHold : IDisposable
{
    private readonly PuppetFabric _fabric;
    private readonly SemaphoreSlim _steps = new(0);
    private readonly ManualResetEventSlim _released = new();
    private long _skip;
    private volatile int _heldThread = -1;
    private int _waiting;

    /// <summary>Holds DMA of any device to a buffer from now on.</summary>
    /// <param name="fabric">Between the devices and memory.</param>
    /// <param name="buffer">The buffer's name.</param>
    /// <param name="skip">Bytes that are let through at first, in whatever pieces they come.</param>
    internal DmaHold(PuppetFabric fabric, string buffer, long skip = 0)
    {
        _fabric = fabric;
        _skip = skip;
        fabric.OnDma = dma =>
        {
            if (dma.Purpose == buffer && Interlocked.Add(ref _skip, -dma.Length) < 0)
                Hold();
            return Errno.Ok;
        };
    }

    /// <summary>True once a device has waited.</summary>
    internal bool IsHeld => _heldThread >= 0;

    /// <summary>True while a device waits.</summary>
    internal bool IsWaiting => Volatile.Read(ref _waiting) != 0;

    /// <summary>True when the device works on a thread of its own, so that the held one is none of the contract's: its number is not this one.</summary>
    /// <param name="thread">A managed thread's number.</param>
    internal bool Holds(int thread) => _heldThread == thread;

    /// <summary>Lets one DMA go on, if one waits.</summary>
    internal void Step()
    {
        if (IsWaiting && _steps.CurrentCount == 0)
            _steps.Release();
    }

    /// <summary>Lets it go on, and all that come later.</summary>
    internal void Release() => _released.Set();

    public void Dispose()
    {
        _fabric.OnDma = null;
        Release();
    }

    private void Hold()
    {
        if (_released.IsSet)
            return;
        Interlocked.Increment(ref _waiting);
        _heldThread = Environment.CurrentManagedThreadId;
        while (!_released.IsSet && !_steps.Wait(1))
        {
            // Two ways to be let go on, and one of them is looked at.
        }

        Interlocked.Decrement(ref _waiting);
    }
}
