using System.Diagnostics;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// The lock of one device's translation state. Plain locks favour whoever runs: a device that does one DMA after another
/// would keep a host's unmap out for long, so the device lets waiting hosts go first, within limits.
/// </summary>
internal sealed class DomainGate
{
    // Enough for a sleeping host to wake; bounded, so that many hosts cannot starve the device.
    private static TimeSpan MostPatience => TimeSpan.FromMicroseconds(50);

    private readonly Lock _lock = new();
    private int _hostsWaiting;

    /// <summary>True inside a mover: the calling thread has entered as a device.</summary>
    public bool IsHeldByCurrentThread => _lock.IsHeldByCurrentThread;

    /// <summary>Enters for mapping, unmapping and administration; left by disposing the scope.</summary>
    public Lock.Scope EnterAsHost()
    {
        Interlocked.Increment(ref _hostsWaiting);
        try
        {
            return _lock.EnterScope();
        }
        finally
        {
            Interlocked.Decrement(ref _hostsWaiting);
        }
    }

    /// <summary>Enters for an access of the device; left by disposing the scope. A mover may enter again.</summary>
    public Lock.Scope EnterAsDevice()
    {
        // Politeness only: a count that is seen too late or too early changes who goes first, nothing else.
        if (Volatile.Read(ref _hostsWaiting) != 0 && !_lock.IsHeldByCurrentThread)
            LetHostsGoFirst();
        return _lock.EnterScope();
    }

    private void LetHostsGoFirst()
    {
        var wait = default(SpinWait);
        long start = Stopwatch.GetTimestamp();
        while (Volatile.Read(ref _hostsWaiting) != 0 && Stopwatch.GetElapsedTime(start) < MostPatience)
            wait.SpinOnce(sleep1Threshold: -1);
    }
}
