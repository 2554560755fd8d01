namespace DmaBufIo.Diagnostics;

/// <summary>A total that any thread may add to: for rare events (maps, invalidations). Requests are counted per context, without sharing.</summary>
public sealed class Counter
{
    private long _value;

    /// <summary>The total so far.</summary>
    public long Value => Volatile.Read(ref _value);

    /// <summary>Adds to the total.</summary>
    /// <param name="amount">How much.</param>
    public void Add(long amount = 1) => Interlocked.Add(ref _value, amount);
}
