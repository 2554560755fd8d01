using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests;

/// <summary>What <see cref="BlockDeviceContract"/> asks of an author: a block device, opened through the host.</summary>
public interface IBlockDeviceFixture : IPluginFixture
{
    /// <summary>What the device can. What it cannot is skipped, with the reason, and never passes.</summary>
    BlockDeviceCapabilities Capabilities { get; }

    /// <summary>Opens a new device of 1 MiB or more. Called for every fact; the world closes what its host has opened.</summary>
    /// <param name="world">A host with the plugin loaded, and a folder for files.</param>
    /// <returns>The device, with exactly one block device.</returns>
    OpenedDevice Open(ContractWorld world);

    /// <summary>Opens a device that is write-protected: with <see cref="BlockDeviceCapabilities.ReadOnly"/>.</summary>
    /// <param name="world">The host.</param>
    OpenedDevice OpenReadOnly(ContractWorld world) => throw new NotSupportedException("A fixture with the capability ReadOnly implements OpenReadOnly.");

    /// <summary>Opens a device of more than 4 GiB and 1 MiB, over sparse files for example: with <see cref="BlockDeviceCapabilities.Large"/>.</summary>
    /// <param name="world">The host.</param>
    OpenedDevice OpenLarge(ContractWorld world) => throw new NotSupportedException("A fixture with the capability Large implements OpenLarge.");

    /// <summary>How many members <see cref="OpenOver"/> wants.</summary>
    int MemberCount => 2;

    /// <summary>Bytes at the end of each member in which the device keeps what is its own: it is not looked at who writes there.</summary>
    long ReservedOnMembers => 0;

    /// <summary>Opens a device on top of members that the contract has on strings: with <see cref="BlockDeviceCapabilities.Stacked"/>.</summary>
    /// <param name="world">The host.</param>
    /// <param name="members">The members' expressions, of 4 MiB each.</param>
    OpenedDevice OpenOver(ContractWorld world, IReadOnlyList<string> members) => throw new NotSupportedException("A fixture with the capability Stacked implements OpenOver.");
}

/// <summary>What a block device can; each flag that is missing skips facts.</summary>
[Flags]
public enum BlockDeviceCapabilities
{
    /// <summary>Only what every block device must.</summary>
    None = 0,

    /// <summary>What was written is read again. Not so for a device that completes and moves nothing.</summary>
    KeepsData = 1,

    /// <summary>Its data goes through the world's fabric (<see cref="Dma.IDmaFabric"/>), so that the contract can hold it up and make it fail.</summary>
    MovesData = 2,

    /// <summary>It has the token operation: it takes registered buffers.</summary>
    Tokens = 4,

    /// <summary>It can be reset under load (<see cref="Devices.IResettable"/>): it, or what it stands on where it has no reset of its own.</summary>
    Reset = 8,

    /// <summary>It can be removed under load: closing the device ends its requests. Not so for one that is to be closed after its rings.</summary>
    Remove = 16,

    /// <summary>It interrupts when it has completed something.</summary>
    Interrupts = 32,

    /// <summary>It can be opened write-protected (<see cref="IBlockDeviceFixture.OpenReadOnly"/>).</summary>
    ReadOnly = 64,

    /// <summary>It can be larger than 4 GiB (<see cref="IBlockDeviceFixture.OpenLarge"/>).</summary>
    Large = 128,

    /// <summary>It stands on other block devices (<see cref="IBlockDeviceFixture.OpenOver"/>).</summary>
    Stacked = 256,

    /// <summary>It keeps several copies: a failure of one is hidden, and a reset of a member too.</summary>
    Redundant = 512,

    /// <summary>
    /// A storage device of its own with everything: <see cref="KeepsData"/>, <see cref="MovesData"/>, <see cref="Tokens"/>, <see cref="Reset"/>, <see cref="Remove"/>, <see cref="Interrupts"/>, <see cref="ReadOnly"/> and
    /// <see cref="Large"/>; neither <see cref="Stacked"/> nor <see cref="Redundant"/>. Take away what yours cannot: <c>Storage &amp; ~Reset</c>.
    /// </summary>
    Storage = KeepsData | MovesData | Tokens | Reset | Remove | Interrupts | ReadOnly | Large,
}
