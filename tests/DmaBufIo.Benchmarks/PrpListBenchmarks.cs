using BenchmarkDotNet.Attributes;
using DmaBufIo.Importers.NvmePci.Protocol;

namespace DmaBufIo.Benchmarks;

/// <summary>
/// The PRP entries of transfers of one page, two pages, and a list (N2), beside a loop that only copies the page addresses.
/// </summary>
public class PrpListBenchmarks
{
    private const int Count = 1024;
    private const int Shift = 12;
    private const ulong ListAddress = 1 << 20;
    private readonly ulong[] _pages = new ulong[Count + 64];
    private readonly ulong[] _list = new ulong[64];

    [Params(1, 2, 32)]
    public int Pages { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        for (int i = 0; i < _pages.Length; i++)
            _pages[i] = (ulong)(i * 3) << Shift;
    }

    [Benchmark(Baseline = true, OperationsPerInvoke = Count)]
    public ulong PlainLoop()
    {
        ulong sum = 0;
        for (int i = 0; i < Count; i++)
        {
            sum += _pages[i];
            if (Pages == 2)
            {
                sum += _pages[i + 1];
            }
            else if (Pages > 2)
            {
                for (int page = 1; page < Pages; page++)
                    _list[page - 1] = _pages[i + page];
                sum += ListAddress;
            }
        }

        return sum;
    }

    [Benchmark(OperationsPerInvoke = Count)]
    public ulong Build()
    {
        ulong sum = 0;
        for (int i = 0; i < Count; i++)
        {
            PrpEntries entries = PrpList.Build(_pages, Shift, (long)i << Shift, Pages << Shift, _list, ListAddress);
            sum += entries.First + entries.Second;
        }

        return sum;
    }
}
