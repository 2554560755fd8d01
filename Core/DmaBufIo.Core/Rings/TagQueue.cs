namespace DmaBufIo.Rings;

/// <summary>A first-in first-out queue of request tags with a fixed capacity. Not shared; allocates nothing after construction.</summary>
internal sealed class TagQueue(int capacity)
{
    private readonly int[] _tags = new int[capacity];
    private int _head;

    internal int Count { get; private set; }

    /// <summary>The tag that was added last.</summary>
    internal int Last => _tags[(_head + Count - 1) % _tags.Length];

    internal void Add(int tag)
    {
        int tail = _head + Count++;
        _tags[tail >= _tags.Length ? tail - _tags.Length : tail] = tag;
    }

    internal int Take()
    {
        int tag = _tags[_head];
        if (++_head == _tags.Length)
            _head = 0;
        Count--;
        return tag;
    }
}
