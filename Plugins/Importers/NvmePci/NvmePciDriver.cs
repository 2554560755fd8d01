using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Controller;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.NvmePci;

/// <summary>The driver for functions of class 01-08-02: NVMe I/O controllers.</summary>
public sealed class NvmePciDriver : IPciDriver
{
    private const int NvmeClassCode = 0x010802;
    private readonly NvmePciOptions _options;

    /// <summary>Creates the driver; one serves any number of functions.</summary>
    /// <param name="options">How it treats its controllers; null for the defaults.</param>
    /// <exception cref="DmaBufIoException">An option is out of range (<c>EINVAL</c>).</exception>
    public NvmePciDriver(NvmePciOptions? options = null)
    {
        _options = options ?? new NvmePciOptions();
        _options.Validate();
    }

    /// <inheritdoc/>
    public string Name => NvmePciPlugin.PluginName;

    /// <inheritdoc/>
    public bool Matches(in PciIdentity identity) => identity.ClassCode == NvmeClassCode;

    /// <inheritdoc/>
    /// <remarks>Disables the controller, sets its admin queue up, enables it and identifies its namespaces. I/O queues are made when they
    /// are opened. May sleep.</remarks>
    /// <exception cref="DmaBufIoException">
    /// The function is gone (<c>ENODEV</c>), does not get ready in the time that CAP.TO states (<c>ETIMEDOUT</c>), fails (<c>EIO</c>), or
    /// has nothing that
    /// the driver can work with (<c>EOPNOTSUPP</c>). The function is disabled then, and still the caller's.
    /// </exception>
    IPciBinding IPciDriver.Probe(PciFunction function, string name) => Probe(function, name);

    /// <inheritdoc cref="IPciDriver.Probe"/>
    public NvmeBinding Probe(PciFunction function, string name)
    {
        if (!BitConverter.IsLittleEndian)
        {
            throw NvmeError.Make(
                Errno.EOPNOTSUPP, name, "the host is big-endian, queue entries are written in host order", "Use a little-endian host");
        }

        return new NvmeBinding(NvmeController.Start(function, name, _options));
    }
}
