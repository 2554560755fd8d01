using System.Runtime;
using System.Runtime.CompilerServices;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>What the checks of the request path run in a process of its own: <c>listing</c> warms everything up, <c>steps</c> counts schedule points.</summary>
internal static class Program
{
    private const int Window = 20_000;
    private const int StableWindows = 8;
    private const int MostWindows = 400;

    private static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case ["listing"]:
                return List();
            case ["steps", string moves]:
                // Before anything of Core is touched: the switch is read once.
                AppContext.SetSwitch("DmaBufIo.Exploration", true);
                return StepCount.Run(moves == "moves");
            default:
                Console.Error.WriteLine("usage: listing | steps (still | moves)");
                return 2;
        }
    }

    /// <summary>Runs until the compiler has nothing left to do: then the last body of each method is the one that stays.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int List()
    {
        using var requests = new Requests();
        using var direct = new DirectCalls();
        long compiled = -1;
        int stable = 0;
        for (int window = 1; stable < StableWindows; window++)
        {
            if (window > MostWindows)
            {
                Console.Error.WriteLine($"after {MostWindows} windows of {Window} requests methods are still compiled");
                return 1;
            }

            requests.Run(Window);
            requests.Run(Window / 10, depth: 1);
            direct.Run(Window);
            _ = Mutants.Run(Window);
            long now = JitInfo.GetCompiledMethodCount();
            stable = now == compiled ? stable + 1 : 0;
            compiled = now;
        }

        return 0;
    }
}
