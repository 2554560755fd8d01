using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests;

/// <summary>A reset of an opened tree, the same for all contracts.</summary>
internal static class DeviceNodeReset
{
    /// <summary>Resets the device, or, where it has no reset of its own, each of those that it stands on (T11).</summary>
    internal static void ResetAll(this DeviceNode device)
    {
        if (device.CanReset || device.Members.Count == 0)
            device.Reset();
        else
            foreach (DeviceNode member in device.Members)
                member.ResetAll();
    }
}
