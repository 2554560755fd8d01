using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>Rings that sleep until the device interrupts (C6).</content>
public abstract partial class ImporterContract
{
    /// <summary>A ring that sleeps is woken for every completion, also after a move and after a reset.</summary>
    [Fact]
    public virtual void C6_a_ring_that_sleeps_is_woken_for_every_completion()
    {
        SkipUnless(ImporterCapabilities.Interrupts);
        OnStage(
            new StageSetup { Completion = CompletionMode.Interrupts },
            stage =>
            {
                const int Requests = 16;
                int length = stage.Blocks(4096);
                for (int round = 0; round < 24; round++)
                {
                    byte[] data = Bytes(round, Requests * length);
                    stage.Give(data, length);

                    // All at once, then one at a time: a wake-up may stand for many completions, and may not be lost for one.
                    int batch = round % 2 == 0 ? Requests : 1;
                    stage.World.Ends("sleeper", () => Sleep(stage, Requests, batch, length), "C6", "a ring that waits for interrupts sleeps although its requests are done.");
                    CheckPrefix(stage, data, "N1", "reads of a ring that waits for interrupts");
                    if (round % 6 == 3)
                        stage.Move(elsewhere: true);
                    if (round % 6 == 5 && Can(ImporterCapabilities.Reset))
                        stage.Target.Reset();
                }
            });
    }

    /// <summary>The device is let on only while the ring sleeps: each completion, and each interrupt, comes after the ring's last look.</summary>
    [Fact]
    public virtual void C6_a_ring_is_woken_by_what_ends_while_it_sleeps()
    {
        SkipUnless(ImporterCapabilities.Interrupts | ImporterCapabilities.MovesData | ImporterCapabilities.WorksAlone);
        OnStage(
            new StageSetup { Completion = CompletionMode.Interrupts },
            stage =>
            {
                const int Requests = 8;
                int length = stage.Blocks(4096);
                stage.CheckRead(0, 0, Bytes(1, length));
                using var gate = new DmaGate(stage.World.Fabric, stage.Buffer.Buffer.Name);
                foreach (int batch in new[] { Requests, 1 })
                {
                    byte[] data = Bytes(batch, Requests * length);
                    stage.Give(data, length);
                    long reaped = 0;
                    IActor sleeper = stage.World.Actors.Start("sleeper", () =>
                    {
                        gate.Own();
                        Sleep(stage, Requests, batch, length, () => Interlocked.Increment(ref reaped));
                    });
                    while (sleeper.UntilBlocked())
                    {
                        long before = Interlocked.Read(ref reaped);
                        stage.World.Eventually(
                            () => sleeper.HasEnded || Interlocked.Read(ref reaped) != before || gate.Pass(),
                            "C6",
                            "a ring that waits for interrupts sleeps, and the device has no DMA left to do.");
                    }

                    sleeper.Join();
                    CheckPrefix(stage, data, "N1", "reads of a ring that waits for interrupts");
                }
            });
    }

    /// <summary>
    /// The device is held in a request of another ring when the reset comes, and has begun none of this one's: what the reset ends of them is told by an interrupt, as what the device ends, for
    /// nothing else wakes the ring.
    /// </summary>
    [Fact]
    public virtual void C6_a_ring_that_sleeps_is_woken_by_a_reset()
    {
        SkipUnless(ImporterCapabilities.Interrupts | ImporterCapabilities.Reset | ImporterCapabilities.MovesData | ImporterCapabilities.WorksAlone | ImporterCapabilities.KeepsData);
        OnStage(
            new StageSetup { Completion = CompletionMode.Interrupts },
            stage =>
            {
                int length = stage.Blocks(4096);
                stage.CheckRead(0, 0, Bytes(1, length));
                Ring other = stage.OpenRing("other");
                try
                {
                    other.RegisterBuffer(0, stage.Registration);
                }
                catch (DmaBufIoException e) when (e.Errno == Errno.EBUSY)
                {
                    SkipUnless(false, $"The fact needs two queues of the device, and it has no more: {e.Message}");
                }

                using var hold = new DmaHold(stage.World.Fabric, stage.Buffer.Buffer.Name);
                IActor holder = stage.World.Actors.Start("other owner", () => SleepFor(stage, other, 1, length));
                stage.World.Eventually(() => hold.IsHeld, "N8", "the device did not begin to move the data of a request.");
                IActor sleeper = stage.World.Actors.Start("owner", () => SleepFor(stage, stage.Ring, 8, length));
                sleeper.UntilBlocked();
                IActor reset = stage.World.Actors.Start("reset", stage.Target.Reset);

                // Until it has told the device, as far as can be seen: how often it has decides how much is found.
                long started = Stopwatch.GetTimestamp();
                while (!reset.HasEnded && Stopwatch.GetElapsedTime(started) < TimeSpan.FromMilliseconds(50))
                    Thread.Yield();
                hold.Release();
                stage.World.Ends(reset, "T11", "a reset under load did not come to its end.");
                stage.World.Ends(holder, "C6", "a request was under way at a reset, and nobody has woken its ring.");
                stage.World.Ends(sleeper, "C6", "requests waited for the device at a reset, and nobody has woken their ring.");
            });
    }

    // Whatever becomes of them.
    private static void SleepFor(ImporterStage stage, Ring ring, int requests, int length)
    {
        for (int i = 0; i < requests; i++)
            _ = ring.TryReadFixed(stage.Target.File, 0, (long)i * length, length, (long)i * length, (ulong)i + 1);
        ring.Submit();
        var completions = new RingCompletion[requests];
        for (int ended = 0; ended < requests;)
            ended += ring.Reap(completions, 1);
    }

    private static void Sleep(ImporterStage stage, int requests, int batch, int length, Action? hasReaped = null)
    {
        var completions = new RingCompletion[batch];
        for (int first = 0; first < requests; first += batch)
        {
            for (int i = first; i < first + batch; i++)
                stage.Read((long)i * length, (long)i * length, length, (ulong)i + 1);
            stage.Ring.Submit();
            for (int ended = 0; ended < batch;)
            {
                int reaped = stage.Ring.Reap(completions, hasReaped is null ? batch - ended : 1);
                stage.World.Check(reaped != 0, "N8", $"of {batch} requests {ended} have ended, and the ring knows of no other.");
                foreach (RingCompletion completion in completions.AsSpan(0, reaped))
                    stage.Ended(completion, length, "N8", "a read of a ring that waits for interrupts");
                ended += reaped;
                hasReaped?.Invoke();
            }
        }
    }
}
