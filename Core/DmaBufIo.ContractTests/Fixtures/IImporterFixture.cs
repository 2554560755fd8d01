namespace DmaBufIo.ContractTests;

/// <summary>What <see cref="ImporterContract"/> asks of an author: a device, opened as a file that takes registered buffers.</summary>
public interface IImporterFixture : IPluginFixture
{
    /// <summary>What the device can. What it cannot is skipped, with the reason, and never passes.</summary>
    ImporterCapabilities Capabilities { get; }

    /// <summary>Opens a new device with contents of its own. Called for every fact; the world closes what its host has opened.</summary>
    /// <param name="world">A host with the plugin loaded, and a folder for files.</param>
    /// <returns>The target; the contract disposes it before the world.</returns>
    ImporterTarget Open(ContractWorld world);
}

/// <summary>What an importer can; each flag that is missing skips facts.</summary>
[Flags]
public enum ImporterCapabilities
{
    /// <summary>Only what every importer must.</summary>
    None = 0,

    /// <summary>The device can be reset under load (<see cref="ImporterTarget.Reset"/>).</summary>
    Reset = 1,

    /// <summary>The device can be removed under load (<see cref="ImporterTarget.Remove"/>).</summary>
    Remove = 2,

    /// <summary>What was written is read again: offsets name places. Not so for a device of messages, nor for one that completes and moves nothing.</summary>
    KeepsData = 4,

    /// <summary>Requests may be vectors of ranges (I6).</summary>
    Vectors = 8,

    /// <summary>The device can interrupt when it has completed something.</summary>
    Interrupts = 16,

    /// <summary>Data reaches the device through its DMA port, request by request: not so for a device that moves nothing.</summary>
    MovesData = 32,

    /// <summary>The file takes references for itself, for a bounded piece of DMA at a time (<see cref="Files.IoFile.IsPaged"/>).</summary>
    Paged = 64,

    /// <summary>
    /// The device works while nobody looks at it: on a thread of its own, when its doorbell rings, or because it is hardware. Not so for a model that works when its driver polls.
    /// </summary>
    WorksAlone = 128,

    /// <summary>The driver's request path allocates nothing and takes no lock (A1). A driver whose device or library leaves it no choice does without, and its users know.</summary>
    Quiet = 256,

    /// <summary>
    /// The device keeps its data several times: a write is transferred to each copy, and the failure of one transfer may cost no request. A mirror.
    /// </summary>
    Redundant = 512,

    /// <summary>The device is one end of a connection: a request that fails ends it, and all that are posted on it.</summary>
    Connected = 1024,

    /// <summary>
    /// A storage device with everything: <see cref="Reset"/>, <see cref="Remove"/>, <see cref="KeepsData"/>, <see cref="Vectors"/>, <see cref="Interrupts"/>, <see cref="MovesData"/>, <see cref="WorksAlone"/> and
    /// <see cref="Quiet"/>; not <see cref="Paged"/>, <see cref="Redundant"/>, <see cref="Connected"/>. Take away what yours cannot: <c>Storage &amp; ~Reset</c>.
    /// </summary>
    Storage = Reset | Remove | KeepsData | Vectors | Interrupts | MovesData | WorksAlone | Quiet,
}
