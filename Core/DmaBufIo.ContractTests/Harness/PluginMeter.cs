using System.ComponentModel;

namespace DmaBufIo.ContractTests;

/// <summary>
/// Counts what the code of a plugin does, by thread, or tells when it has looked at something. Calls to it are put into the plugin's code when it is loaded for a fact that wants to know (<see cref="PluginRewriter"/>); not for authors.
/// </summary>
/// <remarks>Public because the plugin's code calls it. Counts are a thread's own; others read them, a moment old.</remarks>
[EditorBrowsable(EditorBrowsableState.Never)]
public static class PluginMeter
{
    private static readonly List<Counts> s_all = [];

    [ThreadStatic]
    private static Counts? s_mine;

    /// <summary>A method was entered, or a loop went round.</summary>
    public static void Step() => Mine.Steps++;

    /// <summary>A lock is about to be taken, or something that has one inside.</summary>
    public static void Lock() => Mine.Locks++;

    /// <summary>An interlocked instruction is about to be executed.</summary>
    public static void Interlock() => Mine.Interlocks++;

    /// <summary>The thread has looked at something that another may change.</summary>
    public static void Look() => OnLook?.Invoke();

    /// <summary>Called behind each look: what is done here comes between the look and its use.</summary>
    internal static Action? OnLook { get; set; }

    /// <summary>The current thread's counts.</summary>
    internal static Counts Mine => s_mine ?? Begin();

    /// <summary>Steps of all threads so far.</summary>
    internal static long StepsOfAll
    {
        get
        {
            lock (s_all)
                return s_all.Sum(static c => Volatile.Read(ref c.Steps));
        }
    }

    private static Counts Begin()
    {
        var counts = new Counts();
        lock (s_all)
            s_all.Add(counts);
        return s_mine = counts;
    }

    /// <summary>The counts of one thread.</summary>
    internal sealed class Counts
    {
        internal long Steps;
        internal long Locks;
        internal long Interlocks;
    }
}
