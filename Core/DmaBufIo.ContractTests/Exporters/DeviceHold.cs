using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <summary>Holds up one device in the middle of a request: its next DMA waits until it is released. Other devices go on.</summary>
internal sealed class DeviceHold : IDisposable
{
    private readonly PuppetFabric _fabric;
    private readonly ManualResetEventSlim _released = new();
    private volatile bool _held;

    internal DeviceHold(PuppetFabric fabric, string device)
    {
        _fabric = fabric;
        fabric.OnDma = dma =>
        {
            if (dma.Device == device)
            {
                _held = true;
                _released.Wait();
            }

            return Errno.Ok;
        };
    }

    /// <summary>True once the device waits.</summary>
    internal bool IsHeld => _held;

    /// <summary>Lets it go on, and all that come later.</summary>
    internal void Release() => _released.Set();

    public void Dispose()
    {
        _fabric.OnDma = null;
        _released.Set();
    }
}
