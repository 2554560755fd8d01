namespace DmaBufIo.Pci.Model;

/// <summary>Points where a test can put another thread's action into a window that chance would seldom hit.</summary>
public sealed partial class NvmeControllerModel
{
    /// <summary>Called on the controller's thread when it has found no work and has not yet said that it will sleep.</summary>
    internal Action? AboutToSleep { get; set; }
}
