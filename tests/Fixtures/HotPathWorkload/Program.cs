using System.Reflection;
using System.Runtime;
using System.Runtime.CompilerServices;
using DmaBufIo.Importers.NvmePci;
using DmaBufIo.Importers.StackedRaid;
using DmaBufIo.Rings;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>
/// What the checks of the request path run in a process of its own: <c>listing</c> warms everything up, <c>steps</c> counts schedule
/// points.
/// </summary>
internal static class Program
{

    // Short runs: a loop that goes on for long in one call is compiled in the middle of it, on this thread, while the compiler's own
    // thread is at work, and their listings would mix.
    private const int Run = 500;
    private const int Runs = 40;
    private const int StableWindows = 8;
    private const int MostWindows = 400;

    private static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["listing", string inlinings]:
                List(inlinings);
                return 0;
            case ["steps", string moves]:
                // Before anything of Core is touched: the switch is read once.
                AppContext.SetSwitch("DmaBufIo.Exploration", true);
                StepCount.Run(moves == "moves");
                return 0;
            default:
                Console.Error.WriteLine("usage: listing INLININGS-FILE | steps (still | moves)");
                return 2;
        }
    }

    /// <summary>
    /// Runs until every marked method has the code that stays and the compiler has nothing left to do; or for so long that what has none
    /// yet will not get it: then the reader of the listing will miss it.
    /// </summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void List(string inlinings)
    {
        using var compilations = new Compilations();
        Assembly[] assemblies = [typeof(Ring).Assembly, typeof(NvmePciDriver).Assembly, typeof(StackedRaidPlugin).Assembly, typeof(Program).Assembly];
        List<MethodBase> waiting = [.. assemblies.SelectMany(MarkedMethods.Of)];
        waiting.RemoveAll(static m => m.Name == nameof(Mutants.NeverCalled));
        using var requests = new Requests();
        Requests[] stacked = [new(Requests.FileKind.Stripes), new(Requests.FileKind.Mirror), new(Requests.FileKind.Extents)];
        using var direct = new DirectCalls();
        using var queue = new QueueCalls();
        long compiled = -1;
        int stable = 0;
        for (int window = 0; window < MostWindows && (waiting.Count > 0 || stable < StableWindows); window++)
        {
            for (int run = 0; run < Runs; run++)
                RunAll(requests, stacked, direct, queue);
            waiting.RemoveAll(compilations.HasCode);
            long now = JitInfo.GetCompiledMethodCount();
            stable = now == compiled ? stable + 1 : 0;
            compiled = now;
        }

        foreach (Requests set in stacked)
            set.Dispose();
        compilations.WriteInlinings(inlinings);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void RunAll(Requests requests, Requests[] stacked, DirectCalls direct, QueueCalls queue)
    {
        requests.Run(Run);
        requests.Run(Run / 10, depth: 1);
        foreach (Requests set in stacked)
            set.Run(Run / 4);
        direct.Run(Run);
        queue.Run(Run);
        _ = Mutants.Run(Run);
    }
}
