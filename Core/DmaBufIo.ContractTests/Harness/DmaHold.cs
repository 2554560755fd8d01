using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <summary>Holds up a device in the middle of a request: the first DMA to a buffer waits until it is released.</summary>
internal sealed class DmaHold : IDisposable
{
    private readonly PuppetFabric _fabric;
    private readonly ManualResetEventSlim _released = new();
    private volatile bool _held;

    /// <summary>Holds the next DMA of any device to a buffer.</summary>
    /// <param name="fabric">Between the devices and memory.</param>
    /// <param name="buffer">The buffer's name.</param>
    internal DmaHold(PuppetFabric fabric, string buffer)
    {
        _fabric = fabric;
        fabric.OnDma = dma =>
        {
            if (dma.Purpose == buffer)
            {
                _held = true;
                _released.Wait();
            }

            return Errno.Ok;
        };
    }

    /// <summary>True once a device waits.</summary>
    internal bool IsHeld => _held;

    /// <summary>Lets it go on, and all that come later.</summary>
    internal void Release() => _released.Set();

    public void Dispose()
    {
        _fabric.OnDma = null;
        _released.Set();
    }
}
