using DmaBufIo.Errors;

namespace DmaBufIo.Io;

/// <summary>All living contexts by slot. Slots are reused, the lowest free one first, so that gates stay small.</summary>
public static class ContextTable
{
    private const int Limit = 4096; // far above any number of rings that makes sense; a leak shows before memory is gone
    private static readonly Lock s_lock = new();
    private static IoContext?[] s_contexts = new IoContext?[8];
    private static int s_highest;

    /// <summary>How many slots a gate needs so that every context that lives now has one of its own.</summary>
    public static int Slots => Math.Max(8, Volatile.Read(ref s_highest));

    /// <summary>The contexts that live now.</summary>
    public static IoContext[] Living()
    {
        lock (s_lock)
            return [.. s_contexts.OfType<IoContext>()];
    }

    internal static int Add(IoContext context)
    {
        lock (s_lock)
        {
            int slot = Array.IndexOf(s_contexts, null);
            if (slot < 0)
            {
                slot = s_contexts.Length;
                if (slot >= Limit)
                    throw new DmaBufIoException(Errno.EMFILE, "Io", context.Name, $"{Limit} contexts are open", "Dispose rings that are no longer used");
                Array.Resize(ref s_contexts, slot * 2);
            }

            s_contexts[slot] = context;
            s_highest = Math.Max(s_highest, slot + 1);
            return slot;
        }
    }

    internal static void Remove(IoContext context)
    {
        lock (s_lock)
        {
            if (ReferenceEquals(s_contexts[context.Slot], context))
                s_contexts[context.Slot] = null;
        }
    }
}
