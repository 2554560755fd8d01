using DmaBufIo.Block;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>One copy of a mirror. A device that takes the place of another is another member with the same number.</summary>
/// <param name="device">The device.</param>
/// <param name="label">What its user calls it.</param>
/// <param name="id">What the superblocks call it.</param>
/// <param name="state">How it stands.</param>
internal sealed class MirrorMember(BlockDevice device, string label, Guid id, MemberState state)
{
    private volatile int _state = (int)state;

    /// <summary>The device.</summary>
    internal BlockDevice Device { get; } = device;

    /// <summary>What its user calls it, for messages.</summary>
    internal string Label { get; } = label;

    /// <summary>What the superblocks call it.</summary>
    internal Guid Id { get; } = id;

    /// <summary>Its part in composite maps.</summary>
    internal CompositeMember Part { get; } = new(device.Name, device.CreateToken);

    /// <summary>Where its metadata lie, in bytes.</summary>
    internal long Tail { get; } = MetadataLayout.TailOf(device.Capacity);

    /// <summary>True while it is taken in: queues do not all write to it yet, so nothing is copied to it. Control held.</summary>
    internal bool IsJoining { get; set; }

    /// <summary>True when it lacks more than the record of intents says. Control held.</summary>
    internal bool LacksEverything { get; set; }

    /// <summary>The number of the newest superblock that it is known to have; 0 for none. Control held.</summary>
    internal ulong Told { get; set; }

    /// <summary>Where that lies, one of two places; -1 for nowhere. Control held.</summary>
    internal int Place { get; set; } = -1;

    /// <summary>How it stands. Changed with the set's control lock held; read by anybody.</summary>
    internal MemberState State
    {
        get => (MemberState)_state;
        set => _state = (int)value;
    }
}
