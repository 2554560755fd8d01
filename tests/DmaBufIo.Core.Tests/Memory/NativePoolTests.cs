using System.Runtime.CompilerServices;
using DmaBufIo.Block;
using DmaBufIo.Memory;

namespace DmaBufIo.Tests.Memory;

public sealed class NativePoolTests
{
    [Fact]
    public void A_pool_is_zeroed_begins_on_a_cache_line_and_keeps_what_is_written()
    {
        using var pool = new NativePool<Bio>(100);
        Assert.Equal(100, pool.Count);
        for (int i = 0; i < pool.Count; i++)
            Assert.Equal(default, pool[i]);
        for (int i = 0; i < pool.Count; i++)
            pool[i].Size = i;
        for (int i = 0; i < pool.Count; i++)
            Assert.Equal(i, pool[i].Size);
        Assert.True(Unsafe.AreSame(ref pool[7], ref pool[7]));
        Assert.Equal(7 * Unsafe.SizeOf<Bio>(), Unsafe.ByteOffset(ref pool[0], ref pool[7]));
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(4)]
    [InlineData(int.MaxValue)]
    [InlineData(int.MinValue)]
    public void An_index_outside_the_pool_is_refused(int index)
    {
        using var pool = new NativePool<long>(4);
        Assert.Throws<ArgumentOutOfRangeException>(() => pool[index]++);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-5)]
    public void A_pool_of_nothing_is_refused(int count) => Assert.Throws<ArgumentOutOfRangeException>(() => new NativePool<long>(count));

    [Fact]
    public void Disposing_twice_is_allowed()
    {
        var pool = new NativePool<long>(4);
        pool.Dispose();
        pool.Dispose();
    }
}
