using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests;

/// <summary>A reset of an opened tree, the same for all contracts.</summary>
internal static class DeviceNodeReset
{
    /// <summary>Resets the device, or, where it has no reset of its own, each of those that it stands on (T11).</summary>
    internal static void ResetAll(this DeviceNode device)
    {
        // A mistake of the fixture is not told as one of the driver.
        if (!device.CanReset && device.Members.Count == 0)
            throw new NotSupportedException($"The fixture lists the capability Reset, and {device.Name} has none: it is no PCI function and no network card, and its block device is not IResettable.");
        if (device.CanReset)
            device.Reset();
        else
            foreach (DeviceNode member in device.Members)
                member.ResetAll();
    }
}
