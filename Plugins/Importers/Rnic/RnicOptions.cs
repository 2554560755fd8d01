namespace DmaBufIo.Importers.Rnic;

/// <summary>What a card is made of; fixed for its life.</summary>
public sealed record RnicOptions
{
    /// <summary>Its name on the wire, unique there.</summary>
    public string Name { get; init; } = "rnic";

    /// <summary>Where the card hangs in the PCI tree; null when that does not matter.</summary>
    public Devices.DeviceLocation? Location { get; init; }

    /// <summary>True: its engine works on a thread of its own. False: inline, when somebody polls a completion queue of an inline card on the same wire; then there are no interrupts.</summary>
    public bool OwnThread { get; init; } = true;
}
