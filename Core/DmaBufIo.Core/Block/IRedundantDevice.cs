using DmaBufIo.Errors;

namespace DmaBufIo.Block;

/// <summary>A block device that holds several copies of everything and goes on when one of them is lost. All members may sleep; not in completion context, not while holding a map reference or a reservation lock (T15).</summary>
public interface IRedundantDevice
{
    /// <summary>The copies, by number.</summary>
    IReadOnlyList<RedundantMember> Members { get; }

    /// <summary>True when all copies are there and hold the same.</summary>
    bool IsInSync { get; }

    /// <summary>Drops a copy, as if it had failed.</summary>
    /// <param name="member">Its number, from 0.</param>
    /// <exception cref="DmaBufIoException">It is the last one that holds everything (<c>EBUSY</c>), or there is none with this number (<c>EINVAL</c>).</exception>
    void Fail(int member);

    /// <summary>
    /// Gives a lost copy a device: the one that was lost, which then gets what it has missed, or another, which gets everything. Returns when the device gets all writes; what it
    /// lacks is copied while I/O goes on (<see cref="WaitInSync"/>).
    /// </summary>
    /// <param name="member">Its number, from 0.</param>
    /// <param name="device">The device; outlives the set.</param>
    /// <exception cref="DmaBufIoException">The copy is not lost (<c>EBUSY</c>), the device is too small or does not fit (<c>EINVAL</c>), or belongs to another set (<c>EINVAL</c>).</exception>
    void Replace(int member, BlockDevice device);

    /// <summary>Waits until all copies hold the same, or nothing is being copied any more because one was lost.</summary>
    /// <param name="cancellationToken">Interrupts the wait.</param>
    /// <returns><c>Ok</c>; <c>EIO</c> when a copy is missing and nothing is being copied; <c>ENODEV</c> when the set was removed; <c>EINTR</c> when cancelled.</returns>
    Errno WaitInSync(CancellationToken cancellationToken = default);
}

/// <summary>One copy of a redundant device.</summary>
/// <param name="Name">Its device.</param>
/// <param name="State">How it stands, for people: "InSync", "Rebuilding", "Missing".</param>
public sealed record RedundantMember(string Name, string State);
