using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <summary>A mirror's part of a token: the composite map has those members that are there when it is made.</summary>
internal sealed class MirrorTokenDriver(MirrorSet set, DmaBuf buffer, DmaDirection direction)
    : CompositeTokenDriver(buffer, direction, set.Name, [.. set.Copies.Select(static m => m.Part)])
{
    /// <inheritdoc/>
    public override bool IsLost => set.IsClosed || base.IsLost;

    /// <summary>The members have changed, or the set was removed: the next map is made over those of now. Not in completion context; no reservation lock held.</summary>
    internal void Renew()
    {
        // Twice: a map that was being made has seen the members of before, and was not there yet to be killed.
        for (int i = 0; i < 2; i++)
        {
            KillMaps();
            WaitUnmapped();
        }
    }

    /// <inheritdoc/>
    public override void Release() => set.Remove(this);

    /// <inheritdoc/>
    protected override void Setup()
    {
        set.Add(this);
        base.Setup();
    }

    /// <inheritdoc/>
    protected override CompositeMember? MemberAt(int index) => set.Copies[index] is { State: not MemberState.Missing } member ? member.Part : null;

    /// <inheritdoc/>
    protected override bool CanDoWithout(int index) => true;

    /// <inheritdoc/>
    protected override bool CanGoOn(int index, DmaBufIoException reason)
    {
        // A member that holds everything and is there must take the buffer, or the registration says why not. One that is gone, or only just
        // joining, is the one that gives way.
        MirrorMember member = set.Copies[index];
        if (reason.Errno != Errno.ENODEV && member.State == MemberState.InSync)
            return false;
        set.ReportFailure(member);
        return true;
    }
}
