using BenchmarkDotNet.Attributes;
using DmaBufIo.Dma;
using DmaBufIo.Iov;
using DmaBufIo.Tokens;

namespace DmaBufIo.Benchmarks;

/// <summary>
/// An iterator over a map, made and walked in four pieces, beside the same arithmetic on two numbers; and the vector form (I6).
/// </summary>
public class IovIterBenchmarks
{
    private const int Count = 1024;
    private const long Piece = 1024;
    private readonly StillMap _map = new(1 << 20);
    private readonly ReadOnlyMemory<BufferRange> _ranges = new BufferRange[]
    {
        new(0, Piece), new(8192, Piece), new(4096, Piece), new(65536, Piece),
    };

    [Benchmark(Baseline = true, OperationsPerInvoke = Count)]
    public long PlainOffsets()
    {
        long sum = 0;
        for (int i = 0; i < Count; i++)
        {
            long offset = (long)i * 512;
            long left = 4 * Piece;
            while (left > 0)
            {
                sum += offset;
                offset += Piece;
                left -= Piece;
            }
        }

        return sum;
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public long Range()
    {
        long sum = 0;
        for (int i = 0; i < Count; i++)
        {
            var iter = IovIter.ForMap(_map, (long)i * 512, 4 * Piece, DmaDirection.FromDevice);
            while (iter.Count > 0)
            {
                sum += iter.CurrentRange.Offset;
                iter.Advance(Piece);
            }
        }

        return sum;
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public long Vector()
    {
        long sum = 0;
        for (int i = 0; i < Count; i++)
        {
            var iter = IovIter.ForMapRanges(_map, _ranges, DmaDirection.FromDevice);
            while (iter.Count > 0)
            {
                BufferRange range = iter.CurrentRange;
                sum += range.Offset;
                iter.Advance(range.Length);
            }
        }

        return sum;
    }

    private sealed class StillMap(long length) : DmaMap(length, length);
}
