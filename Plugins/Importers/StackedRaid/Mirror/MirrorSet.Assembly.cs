using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <content>Assembly.</content>
internal sealed partial class MirrorSet
{
    /// <summary>Assembles a set, or makes a new one. What may differ is copied while I/O goes on.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="devices">The members in order; they outlive the set.</param>
    /// <exception cref="DmaBufIoException">As <see cref="AssemblyPlan.Make"/>.</exception>
    internal static MirrorSet Assemble(string name, IReadOnlyList<BlockDevice> devices)
    {
        var store = new MirrorStore(name);
        MirrorSet set;
        try
        {
            set = new MirrorSet(name, store, AssemblyPlan.Make(name, store, devices));
        }
        catch
        {
            store.Dispose();
            throw;
        }

        try
        {
            set.Begin();
            return set;
        }
        catch
        {
            set.Dispose();
            throw;
        }
    }

    private void Begin()
    {
        if (_readOnly)
        {
            // Nothing is copied; what may differ is read from one member.
            _isCopying = Array.IndexOf(_needsSync, (byte)1) >= 0;
            return;
        }

        using Control control = TakeControl();

        // Intents first: a member that joins is in the superblocks only when the record says what it lacks.
        if (!WriteIntents() || !WriteSuperblocks())
            throw new DmaBufIoException(Errno.EIO, StackedRaidPlugin.PluginName, Name, "the metadata cannot be written to any member", "See what the devices themselves say");
        if (Array.IndexOf(_needsSync, (byte)1) >= 0 || Array.Exists(_members, static m => m.State == MemberState.Rebuilding))
            BeginCopying();
    }
}
