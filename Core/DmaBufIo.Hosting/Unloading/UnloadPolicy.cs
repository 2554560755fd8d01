namespace DmaBufIo.Hosting;

/// <summary>What unloading a plugin does about devices and buffers of it that are alive.</summary>
public enum UnloadPolicy
{
    /// <summary>Nothing: unloading is refused (<c>EBUSY</c>), and everything goes on. The default.</summary>
    Refuse,

    /// <summary>
    /// Ends them: the devices that the plugin takes part in are closed, newest first, those included in which other plugins stand on it; then the host's references to its
    /// buffers are dropped, and registrations that still hold one are waited for, up to the caller's limit. When something is left at the limit, the plugin stays loaded.
    /// </summary>
    Drain,
}
