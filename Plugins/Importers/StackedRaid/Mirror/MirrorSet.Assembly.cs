using DmaBufIo.Block;
using DmaBufIo.Errors;

namespace DmaBufIo.Importers.StackedRaid.Mirror;

/// <content>Assembly.</content>
internal sealed partial class MirrorSet
{
    /// <summary>Assembles a set, or makes a new one. What may differ is copied while I/O goes on.</summary>
    /// <param name="request">What; its devices outlive the set.</param>
    /// <exception cref="DmaBufIoException">As <see cref="AssemblyPlan.Make"/>.</exception>
    internal static MirrorSet Assemble(AssemblyRequest request)
    {
        var store = new MirrorStore(request.Name);
        MirrorSet set;
        try
        {
            set = new MirrorSet(request.Name, store, AssemblyPlan.Make(request, store));
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
        // Nothing is copied to what is read only; what may differ is read from one member.
        if (_readOnly)
            return;
        using Control control = TakeControl();

        // Intents first: a member that joins is in the superblocks only when the record says what it lacks. Superblocks twice: the second says that all have the first, so that what was
        // copied from a member before this assembly is told from a member that a crash has kept from one of them.
        if (!WriteIntents() || !WriteSuperblocks() || !WriteSuperblocks())
            throw new DmaBufIoException(Errno.EIO, StackedRaidPlugin.PluginName, Name, "the metadata cannot be written to any member", "See what the devices themselves say");
        _hasBegun = true;
        if (Array.IndexOf(_needsSync, (byte)1) >= 0 || Array.Exists(_members, static m => m.State == MemberState.Rebuilding))
            BeginCopying();
    }
}
