using System.Runtime.CompilerServices;
using DmaBufIo.Dma;
using DmaBufIo.Pci;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>
/// Where the driver ends and the device begins. Its registers are never inlined, so that what a device model does behind them cannot be
/// taken for the driver's own code.
/// </summary>
internal sealed class DevicePort(PciFunction device) : PciFunction
{
    public override string Name => device.Name;

    public override PciIdentity Identity => device.Identity;

    public override DmaAddressSpace AddressSpace => device.AddressSpace;

    public override int InterruptVectors => device.InterruptVectors;

    public override long BarLength(int bar) => device.BarLength(bar);

    [MethodImpl(MethodImplOptions.NoInlining)]
    public override uint Read32(int bar, long offset) => device.Read32(bar, offset);

    [MethodImpl(MethodImplOptions.NoInlining)]
    public override void Write32(int bar, long offset, uint value) => device.Write32(bar, offset, value);

    [MethodImpl(MethodImplOptions.NoInlining)]
    public override void Advance() => device.Advance();

    public override void SetInterruptHandler(int vector, Action? handler) => device.SetInterruptHandler(vector, handler);

    public override void Reset() => device.Reset();

    public override void Dispose() => device.Dispose();
}
