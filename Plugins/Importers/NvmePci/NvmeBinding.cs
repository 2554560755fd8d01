using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Controller;
using DmaBufIo.Plugins;

namespace DmaBufIo.Importers.NvmePci;

/// <summary>The driver bound to one controller. Owns the function; all members may be called from any thread.</summary>
public sealed class NvmeBinding : IPciBinding
{
    private readonly NvmeController _controller;

    internal NvmeBinding(NvmeController controller) => _controller = controller;

    /// <summary>One block device per active namespace that the driver can work with, in order of their numbers.</summary>
    public IReadOnlyList<BlockDevice> BlockDevices => _controller.Namespaces;

    /// <summary>Namespaces that were left out, each with the reason.</summary>
    public IReadOnlyList<string> SkippedNamespaces => _controller.SkippedNamespaces;

    /// <summary>Resets that were finished: by <see cref="Reset"/>, and by the driver itself after a timeout or a failure of the
    /// controller.</summary>
    public int Resets => _controller.Resets;

    /// <summary>Why the driver gave the controller up, or null.</summary>
    public DmaBufIoException? Failure => _controller.Failure;

    /// <summary>
    /// Disables the controller, ends every request in flight with <c>ECANCELED</c>, exactly once (N8), kills the maps without waiting
    /// (T11), enables
    /// the controller again and makes its queues anew. May sleep; visits the contexts of all queues, so not from within a batch of one of
    /// them, and not
    /// while holding a map reference. Until it is done queues take no bios.
    /// </summary>
    /// <exception cref="DmaBufIoException">The device is gone, or did not come back and was given up (<c>ENODEV</c>, <c>ETIMEDOUT</c>,
    /// <c>EIO</c>); its requests have ended then too.</exception>
    public void Reset() => _controller.Reset();

    /// <summary>
    /// Removes the device: requests in flight end with <c>ENODEV</c>, later ones too; returns when every map for the device is unmapped
    /// (T11), and
    /// disposes the function. May sleep; not from within a batch, not while holding a map reference or a reservation lock. Idempotent.
    /// </summary>
    public void Dispose() => _controller.Dispose();
}
