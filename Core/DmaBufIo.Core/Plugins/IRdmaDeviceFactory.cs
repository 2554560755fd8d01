using DmaBufIo.Rdma;

namespace DmaBufIo.Plugins;

/// <summary>Makes RDMA devices for a word of the topology grammar.</summary>
public interface IRdmaDeviceFactory
{
    /// <summary>The word, lower case, for example "rnic".</summary>
    string Word { get; }

    /// <summary>Makes the device.</summary>
    /// <param name="expression">The node with this word.</param>
    /// <returns>The device; the caller disposes it.</returns>
    /// <exception cref="Errors.DmaBufIoException">A broken expression (<c>EINVAL</c>), or the name is taken (<c>EEXIST</c>).</exception>
    RdmaDevice Create(DeviceExpression expression);
}
