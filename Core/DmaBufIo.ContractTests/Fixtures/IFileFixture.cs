using DmaBufIo.Files;

namespace DmaBufIo.ContractTests;

/// <summary>
/// What <see cref="FileContract"/> asks of an author: a file. The world's host knows one word more than usual: <c>puppet:NAME[,size=1M,lba=512,max=128K]</c> is a disk in memory that the contract holds
/// up, fills and fails; <c>max</c> is its largest bio. A file on puppets (<c>my-word:NAME@(puppet:a,max=8K,puppet:b)</c>) is tested with everything.
/// </summary>
public interface IFileFixture : IPluginFixture
{
    /// <summary>What the file can. What it cannot is skipped, with the reason, and never passes.</summary>
    FileCapabilities Capabilities { get; }

    /// <summary>
    /// Opens a new file with contents of its own, of at most 64 MiB: the contract compares all of it again and again. Called for every fact, by some twice; the world closes what its host has opened.
    /// </summary>
    /// <param name="world">A host with the plugin loaded, and a folder for files.</param>
    /// <param name="flags">How the file is to be opened. The target's own way to the data is opened for reading and writing in any case.</param>
    /// <returns>The target, for example a <see cref="FileTarget"/>; the contract disposes it before the world.</returns>
    ImporterTarget Open(ContractWorld world, OpenFlags flags);
}

/// <summary>What a file can; each flag that is missing skips facts.</summary>
[Flags]
public enum FileCapabilities
{
    /// <summary>Only what every file must.</summary>
    None = 0,

    /// <summary>What was written can be read again: offsets name places, and the file has an end. Not so for a connection.</summary>
    KeepsData = 1,

    /// <summary>Requests may be vectors of ranges (I6).</summary>
    Vectors = 2,

    /// <summary>The file can be opened for reading alone.</summary>
    ReadOnly = 4,

    /// <summary>The file stands on disks of the word <c>puppet</c>, directly, and needs all of them.</summary>
    OnPuppets = 8,

    /// <summary>A file on block devices with everything.</summary>
    Storage = KeepsData | Vectors | ReadOnly | OnPuppets,
}
