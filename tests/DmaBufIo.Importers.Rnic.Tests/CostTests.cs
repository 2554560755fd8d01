using System.Diagnostics;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Tests;

public sealed class CostTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Posting_moving_and_polling_allocate_nothing(bool ownThread)
    {
        using var rig = new Rig(ownThread);
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect();
        RdmaMemoryRegion source = rig.Register(rig.Left, rig.Buffer("a", 256 << 10), RdmaAccess.None);
        RdmaMemoryRegion target = rig.Register(rig.Right, rig.Buffer("b", 256 << 10), RdmaAccess.LocalWrite);
        RdmaWorkRequest[] sends = [.. Enumerable.Range(0, 64).Select(i => RdmaWorkRequest.Send((ulong)i, source, i * 4096, 4096))];
        RdmaWorkRequest[] receives = [.. Enumerable.Range(0, 64).Select(i => RdmaWorkRequest.Receive((ulong)i, target, i * 4096, 4096))];
        right.PostReceive(receives, out _);
        left.PostSend(sends, out _);
        Run(left, right, sends, receives, 5_000);
        long before = GC.GetAllocatedBytesForCurrentThread();
        const int All = 200_000;
        long begun = Stopwatch.GetTimestamp();
        Run(left, right, sends, receives, All);
        TimeSpan taken = Stopwatch.GetElapsedTime(begun);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        TestContext.Current.SendDiagnosticMessage($"{(ownThread ? "thread" : "inline")}: {All / taken.TotalSeconds / 1000:0} K messages of 4 KiB per second, {allocated} bytes allocated");

        // Inline, the engine is this thread, too.
        Assert.Equal(0, allocated);
    }

    private static void Run(RdmaQueuePair left, RdmaQueuePair right, RdmaWorkRequest[] sends, RdmaWorkRequest[] receives, int count)
    {
        Span<RdmaCompletion> completions = stackalloc RdmaCompletion[64];
        for (int received = 0; received < count;)
        {
            int r = right.ReceiveCompletions.Poll(completions);
            if (r != 0)
                right.PostReceive(receives.AsSpan(0, r), out _);
            int s = left.SendCompletions.Poll(completions);
            if (s != 0)
                left.PostSend(sends.AsSpan(0, s), out _);
            received += r;
            if (r + s == 0)
                Thread.Yield();
        }
    }
}
