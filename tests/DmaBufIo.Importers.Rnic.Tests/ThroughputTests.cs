using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Tests;

public sealed class ThroughputTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Small(bool ownThread)
    {
        using var rig = new Rig(ownThread);
        (RdmaQueuePair left, RdmaQueuePair right) = rig.Connect();
        RdmaMemoryRegion source = rig.Register(rig.Left, rig.Buffer("a", 256 << 10), RdmaAccess.None);
        RdmaMemoryRegion target = rig.Register(rig.Right, rig.Buffer("b", 256 << 10), RdmaAccess.LocalWrite);
        var completions = new RdmaCompletion[64];
        var sends = new RdmaWorkRequest[64];
        var receives = new RdmaWorkRequest[64];
        for (int i = 0; i < 64; i++)
        {
            sends[i] = RdmaWorkRequest.Send((ulong)i, source, i * 4096, 4096);
            receives[i] = RdmaWorkRequest.Receive((ulong)i, target, i * 4096, 4096);
        }

        right.PostReceive(receives, out _);
        left.PostSend(sends, out _);
        const int All = 2_000_000;
        var watch = Stopwatch.StartNew();
        int received = 0;
        int sent = 0;
        while (received < All)
        {
            int r = right.ReceiveCompletions.Poll(completions);
            if (r != 0)
                right.PostReceive(receives.AsSpan(0, r), out _);
            int s = left.SendCompletions.Poll(completions);
            if (s != 0)
                left.PostSend(sends.AsSpan(0, s), out _);
            received += r;
            sent += s;
            if (r + s == 0)
                Thread.Yield();
        }

        watch.Stop();
        TestContext.Current.SendDiagnosticMessage($"{(ownThread ? "thread" : "inline")}: {All / watch.Elapsed.TotalSeconds / 1000:0} K messages of 4 KiB per second");
        left.Disconnect();
        Assert.Equal(Errno.ECONNRESET, right.Reason);
    }
}
