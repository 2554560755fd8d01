namespace DmaBufIo.ContractTests;

/// <summary>What <see cref="ExporterContract"/> asks of an author: a buffer of the exporter.</summary>
public interface IExporterFixture : IPluginFixture
{
    /// <summary>What the exporter can. What it cannot is skipped, with the reason, and never passes.</summary>
    ExporterCapabilities Capabilities { get; }

    /// <summary>Makes a new buffer, its contents zero. Called for every fact, several times by some: buffers of one world can be worked on together.</summary>
    /// <param name="world">A host with the plugin loaded.</param>
    /// <param name="name">The buffer's name, for messages.</param>
    /// <param name="size">Bytes, whole pages; with <see cref="ExporterCapabilities.Large"/> also more than 1 GiB.</param>
    /// <returns>The buffer, for example <c>new ExporterTarget(world.Host.CreateBuffer("my-word", name, size))</c>; the contract disposes it before the world.</returns>
    ExporterTarget Create(ContractWorld world, string name, long size);

    /// <summary>With <see cref="ExporterCapabilities.PeerToPeer"/>: a place in the PCI tree from which a device reaches the exporter's own memory.</summary>
    string PeerLocation => throw new NotSupportedException("A fixture with the capability PeerToPeer says where a peer hangs.");
}

/// <summary>What an exporter can; each flag that is missing skips facts.</summary>
[Flags]
public enum ExporterCapabilities
{
    /// <summary>Only what every exporter must.</summary>
    None = 0,

    /// <summary>Buffers can be moved on demand (<see cref="ExporterTarget.Move"/>).</summary>
    Moves = 1,

    /// <summary>Devices may attach statically; a buffer stays where it is for as long.</summary>
    Pins = 2,

    /// <summary>A buffer has a descriptor that stands for it.</summary>
    Descriptors = 4,

    /// <summary>The CPU sees the contents through <see cref="DmaBufs.DmaBuf.Describe"/>.</summary>
    HostMemory = 8,

    /// <summary>The exporter works on its buffers itself (<see cref="ExporterTarget.Compute"/>).</summary>
    Jobs = 16,

    /// <summary>The exporter's memory can be put under pressure (<see cref="ExporterTarget.Presser"/>).</summary>
    Pressure = 32,

    /// <summary>The exporter has memory of its own that some devices reach directly and others do not.</summary>
    PeerToPeer = 64,

    /// <summary>Buffers of more than 1 GiB (R7). The contract touches a few pages of one.</summary>
    Large = 128,
}
