using Microsoft.Extensions.Logging;

namespace DmaBufIo.Hosting;

/// <summary>
/// Every message of the host. An event id keeps its meaning for ever: 1xxx plugins, 2xxx devices and buffers, 3xxx diagnostics, 4xxx the
/// host.
/// </summary>
internal static partial class HostLog
{
    [LoggerMessage(1000, LogLevel.Information, "Plugin {Plugin} {Version} loaded from {Folder}, words: {Words}")]
    internal static partial void PluginLoaded(this ILogger logger, string plugin, Version? version, string folder, string words);

    [LoggerMessage(1001, LogLevel.Warning, "Plugin {Plugin} from {Folder} refused: {Reason}")]
    internal static partial void PluginRefused(this ILogger logger, string plugin, string folder, string reason);

    [LoggerMessage(1002, LogLevel.Information, "Plugin {Plugin} from {Folder} unloaded")]
    internal static partial void PluginUnloaded(this ILogger logger, string plugin, string folder);

    [LoggerMessage(1003, LogLevel.Warning, "No plugin in folder {Folder}: each lies in a folder of its own there")]
    internal static partial void PluginFolderEmpty(this ILogger logger, string folder);

    [LoggerMessage(1004, LogLevel.Information, "Plugin {Plugin} is drained before it is unloaded: {Uses} uses, {Buffers} buffers")]
    internal static partial void PluginDraining(this ILogger logger, string plugin, int uses, int buffers);

    [LoggerMessage(1005, LogLevel.Warning, "Plugin {Plugin} stays loaded: {Reason}")]
    internal static partial void PluginKept(this ILogger logger, string plugin, string reason);

    [LoggerMessage(1006, LogLevel.Information, "Plugin folder {Folder} is not complete: {Reason}. It is looked at again when it changes")]
    internal static partial void PluginIncomplete(this ILogger logger, string folder, string reason);

    [LoggerMessage(1007, LogLevel.Information, "Plugin folder {Folder} is watched; policy of reloading: {Policy}")]
    internal static partial void WatchBegun(this ILogger logger, string folder, UnloadPolicy policy);

    [LoggerMessage(1008, LogLevel.Warning, "Plugin folder {Folder} could not be looked at, or not wholly")]
    internal static partial void WatchFailed(this ILogger logger, string folder, Exception exception);

    [LoggerMessage(1009, LogLevel.Error, "A handler of a plugin's change threw: {Change} of {Plugin}")]
    internal static partial void PluginHandlerFault(this ILogger logger, PluginChange change, string plugin, Exception exception);

    [LoggerMessage(1010, LogLevel.Error, "The plugin from {Folder} threw while it was unloaded; it is gone all the same")]
    internal static partial void PluginUnloadFailed(this ILogger logger, string folder, Exception exception);

    [LoggerMessage(2000, LogLevel.Information, "Device {Device} opened from {Expression}, driver {Driver}")]
    internal static partial void DeviceOpened(this ILogger logger, string device, string expression, string driver);

    [LoggerMessage(2001, LogLevel.Information, "Device {Device} closed")]
    internal static partial void DeviceClosed(this ILogger logger, string device);

    [LoggerMessage(2002, LogLevel.Information, "Function {Function} is driven by {Driver}; {Other} matches it too and was loaded later")]
    internal static partial void DriverPassedOver(this ILogger logger, string function, string driver, string other);

    [LoggerMessage(2003, LogLevel.Warning, "Device {Device} closed with an error")]
    internal static partial void DeviceCloseFailed(this ILogger logger, string device, Exception exception);

    [LoggerMessage(2010, LogLevel.Information, "Buffer {Buffer} of {Size} bytes made by {Expression}")]
    internal static partial void BufferCreated(this ILogger logger, string buffer, long size, string expression);

    [LoggerMessage(2011, LogLevel.Information, "Reference to buffer {Buffer} dropped")]
    internal static partial void BufferDropped(this ILogger logger, string buffer);

    [LoggerMessage(2012, LogLevel.Warning, "Dropping the reference to buffer {Buffer} failed")]
    internal static partial void BufferDropFailed(this ILogger logger, string buffer, Exception exception);

    [LoggerMessage(3000, LogLevel.Warning, "Thread {Thread} has waited {Waited} for {WaitsFor}")]
    internal static partial void LongWait(this ILogger logger, string thread, TimeSpan waited, string waitsFor);

    [LoggerMessage(3001, LogLevel.Error, "A driver's callback threw: {Callback}")]
    internal static partial void DriverFault(this ILogger logger, string callback, Exception exception);

    [LoggerMessage(3002, LogLevel.Warning, "{Set}: member {Member} failed with {Status} at {Offset}+{Length}")]
    internal static partial void MemberFault(this ILogger logger, string set, string member, Errors.Errno status, long offset, long length);

    [LoggerMessage(4000, LogLevel.Information, "Started with {Loaded} plugins, {Refused} refused")]
    internal static partial void Started(this ILogger logger, int loaded, int refused);

    [LoggerMessage(4001, LogLevel.Information, "Stopped")]
    internal static partial void Stopped(this ILogger logger);

    [LoggerMessage(4002, LogLevel.Information, "Stopping waits for {Requests} requests in flight on {Rings} rings")]
    internal static partial void StoppingWaits(this ILogger logger, int requests, int rings);

    [LoggerMessage(4003, LogLevel.Warning, "The time to stop is up with {Requests} requests in flight on {Rings}: closing the devices ends them")]
    internal static partial void RequestsLeft(this ILogger logger, int requests, string rings);

    [LoggerMessage(4004, LogLevel.Warning, "Still closing: {Devices}. The plugins stay loaded")]
    internal static partial void StillClosing(this ILogger logger, string devices);
}
