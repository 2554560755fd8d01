using System.Runtime.CompilerServices;
using DmaBufIo.Sync;

namespace DmaBufIo.Fixtures.HotPathWorkload;

/// <summary>Counts what the request thread declares to do at schedule points, and prints one line per kind of step.</summary>
internal sealed class StepCount : IScheduler
{
    private const int Count = 10_000;
    private readonly long[] _steps = new long[Enum.GetValues<StepKind>().Length];
    private readonly Thread _thread = Thread.CurrentThread;

    public void Reach(in ScheduleStep step)
    {
        if (ReferenceEquals(Thread.CurrentThread, _thread))
            _steps[(int)step.Kind]++;
    }

    public void Park(in ScheduleStep step, Func<bool> hasPermit, bool mayTimeOut)
    {
        // Counted like any step; the wait itself is the real one.
        Reach(step);
        SpinWait.SpinUntil(hasPermit, mayTimeOut ? TimeSpan.FromMilliseconds(1) : Timeout.InfiniteTimeSpan);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static void Run(bool moves)
    {
        using var requests = new Requests();
        requests.Run(1000);
        var count = new StepCount();
        SchedulePoint.Install(count);
        try
        {
            // An invalidation now and then, as the counterpart that must show: locks, waits, barriers.
            for (int part = 0; part < 10; part++)
            {
                if (moves)
                    requests.Move();
                requests.Run(Count / 10);
            }
        }
        finally
        {
            SchedulePoint.Install(null);
        }

        foreach (StepKind kind in Enum.GetValues<StepKind>())
            Console.WriteLine($"{kind} {count._steps[(int)kind]}");
    }
}
