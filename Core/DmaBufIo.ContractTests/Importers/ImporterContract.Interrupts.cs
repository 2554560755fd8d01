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

    private static void Sleep(ImporterStage stage, int requests, int batch, int length)
    {
        var completions = new RingCompletion[batch];
        for (int first = 0; first < requests; first += batch)
        {
            for (int i = first; i < first + batch; i++)
                stage.Read((long)i * length, (long)i * length, length, (ulong)i + 1);
            stage.Ring.Submit();
            int reaped = stage.Ring.Reap(completions, batch);
            stage.World.Check(reaped == batch, "N8", $"of {batch} requests {reaped} have ended, and the ring knows of no other.");
            foreach (RingCompletion ended in completions)
                stage.Ended(ended, length, "N8", "a read of a ring that waits for interrupts");
        }
    }
}
