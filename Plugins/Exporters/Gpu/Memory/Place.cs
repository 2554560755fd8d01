using DmaBufIo.Memory;
using DmaBufIo.Native;

namespace DmaBufIo.Exporters.Gpu.Memory;

/// <summary>Where a buffer's contents are, or were: ranges of the GPU's memory, or main memory. A buffer that moves gets another one.</summary>
/// <remarks>
/// The engines work on the memory itself; importers get views of it. A place that was left is poisoned by the copy engine, its views are marked dead, and its memory is given back at once: no
/// request uses the addresses any more (F7). The views stay mapped until the last importer's worker has unmapped: an access through one of them is recorded as stale, whoever has
/// the memory by then.
/// </remarks>
internal sealed class Place
{
    /// <summary>The byte with which a place that was left is filled.</summary>
    internal const byte Poison = 0xDE;

    private readonly Lock _lock = new();
    private readonly string _name;
    private readonly Action _giveBack;
    private MemoryRange[] _views = [];
    private int _mappings;
    private bool _isLeft;

    /// <summary>A place that was taken.</summary>
    /// <param name="name">The buffer's name.</param>
    /// <param name="isVram">True in the GPU's memory.</param>
    /// <param name="memory">The memory, in order. What it holds is not defined.</param>
    /// <param name="giveBack">Gives the memory back when the place is left.</param>
    internal Place(string name, bool isVram, IReadOnlyList<MemoryRange> memory, Action giveBack)
    {
        _name = name;
        IsVram = isVram;
        Memory = memory;
        _giveBack = giveBack;
    }

    /// <summary>True in the GPU's memory.</summary>
    internal bool IsVram { get; }

    /// <summary>The memory, in order: for the engines.</summary>
    internal IReadOnlyList<MemoryRange> Memory { get; }

    /// <summary>The memory for importers. Empty once the place was left, when nobody had asked before.</summary>
    internal IReadOnlyList<MemoryRange> Views()
    {
        lock (_lock)
        {
            if (_views.Length == 0 && !_isLeft)
                _views = MakeViews();
            return _views;
        }
    }

    /// <summary>Somebody has mapped it.</summary>
    internal void Mapped()
    {
        lock (_lock)
            _mappings++;
    }

    /// <summary>Somebody has unmapped it.</summary>
    internal void Unmapped()
    {
        lock (_lock)
        {
            if (--_mappings == 0 && _isLeft)
                Free();
        }
    }

    /// <summary>The contents are elsewhere, or nowhere. No request uses its addresses (F7).</summary>
    internal void Leave(bool poison)
    {
        lock (_lock)
        {
            _isLeft = true;
            foreach (MemoryRange view in _views)
                view.Region.MarkDead();
        }

        if (poison)
            Fill(Poison);
        _giveBack();
        lock (_lock)
        {
            if (_mappings == 0)
                Free();
        }
    }

    /// <summary>Fills it with one value.</summary>
    internal void Fill(byte value)
    {
        foreach (MemoryRange range in Memory)
        {
            for (long done = 0; done < range.Length; done += 1 << 30)
                range.Region.Span(range.Offset + done, (int)Math.Min(range.Length - done, 1 << 30)).Fill(value);
        }
    }

    /// <summary>Copies the contents of another place of the same size.</summary>
    internal void CopyFrom(Place source)
    {
        int from = 0;
        int to = 0;
        long fromOffset = 0;
        long toOffset = 0;
        while (from < source.Memory.Count)
        {
            MemoryRange theirs = source.Memory[from];
            MemoryRange mine = Memory[to];
            int length = (int)Math.Min(Math.Min(theirs.Length - fromOffset, mine.Length - toOffset), 1 << 30);
            theirs.Region.Span(theirs.Offset + fromOffset, length).CopyTo(mine.Region.Span(mine.Offset + toOffset, length));
            fromOffset += length;
            toOffset += length;
            if (fromOffset == theirs.Length)
                (from, fromOffset) = (from + 1, 0);
            if (toOffset == mine.Length)
                (to, toOffset) = (to + 1, 0);
        }
    }

    private MemoryRange[] MakeViews()
    {
        var views = new List<MemoryRange>();
        try
        {
            foreach (MemoryRange range in Memory)
            {
                MemoryRegion region = MemoryRegion.FromFile(_name, MemfdHandle.Duplicate(range.Region.File), range.Length, range.Region.FileOffset + range.Offset);
                views.Add(new MemoryRange(region, 0, range.Length));
            }

            return [.. views];
        }
        catch
        {
            foreach (MemoryRange view in views)
                view.Region.Dispose();
            throw;
        }
    }

    private void Free()
    {
        foreach (MemoryRange view in _views)
            view.Region.Dispose();
    }
}
