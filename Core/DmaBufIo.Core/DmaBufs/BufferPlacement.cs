namespace DmaBufIo.DmaBufs;

/// <summary>Where the memory lay that a device was given, and why there: so that it can be asked whether a transfer went from device to device.</summary>
/// <param name="Kind">Where.</param>
/// <param name="Reason">Why, for people; the same text for the same reason, so that it can be counted.</param>
public readonly record struct BufferPlacement(PlacementKind Kind, string Reason);

/// <summary>Where a buffer's memory lies, as one attached device reaches it.</summary>
public enum PlacementKind
{
    /// <summary>In main memory.</summary>
    SystemMemory,

    /// <summary>In another device's memory, which the attached device reaches directly.</summary>
    PeerToPeer,
}

/// <summary>How often a device was given a buffer in one place for one reason.</summary>
/// <param name="Placement">Where, and why.</param>
/// <param name="Maps">How often since the device was attached.</param>
public readonly record struct PlacementCount(BufferPlacement Placement, long Maps);
