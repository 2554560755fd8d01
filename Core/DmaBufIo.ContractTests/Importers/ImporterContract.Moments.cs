using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>
/// A removal and a reset at any moment (T11, N8): one after the other of the looks that the driver takes at what another thread may change, on the thread of the ring's owner. A command that is handed
/// over after the device was seen to be there, and before it goes, is lost once in a million without that.
/// </content>
public abstract partial class ImporterContract
{
    /// <summary>Whenever a removal comes, every request ends, once.</summary>
    [Fact]
    public virtual void N8_a_removal_at_any_moment_ends_every_request()
    {
        SkipUnless(ImporterCapabilities.Remove | ImporterCapabilities.KeepsData);
        AtAnyMoment("a removal", static stage => stage.Target.Remove());
    }

    /// <summary>Whenever a reset comes, every request ends, once.</summary>
    [Fact]
    public virtual void N8_a_reset_at_any_moment_ends_every_request()
    {
        SkipUnless(ImporterCapabilities.Reset | ImporterCapabilities.KeepsData);
        AtAnyMoment("a reset", static stage => stage.Target.Reset());
    }

    private void AtAnyMoment(string what, Action<ImporterStage> come)
    {
        for (int round = 0; round < 16; round++)
        {
            int turn = round;
            CompletionMode completion = turn % 4 != 0 && Can(ImporterCapabilities.Interrupts) ? CompletionMode.Interrupts : CompletionMode.Polling;
            OnStage(
                new StageSetup { Completion = completion },
                stage =>
                {
                    SkipUnless(stage.World.Plugin is not null, "The plugin is built in: looks are told by the code of plugins that are loaded.");
                    try
                    {
                        AtLook(stage, turn, what, come);
                    }
                    finally
                    {
                        PluginMeter.OnLook = null;
                    }
                },
                code: PluginCode.Watched,
                situation: $"{what} at look {turn + 1} of the ring's owner");
        }
    }

    private static void AtLook(ImporterStage stage, int turn, string what, Action<ImporterStage> come)
    {
        const int Requests = 4;
        int length = stage.Blocks(4096);
        byte[] data = Bytes(turn, Requests * length);
        stage.Give(data, length);
        bool isOver = false;
        int thread = 0;
        int looks = 0;
        int begun = 0;
        IActor? coming = null;
        bool Begin()
        {
            if (Interlocked.Exchange(ref begun, 1) != 0)
                return false;
            Volatile.Write(ref coming, stage.World.Actors.Start(what, () => come(stage)));
            return true;
        }

        PluginMeter.OnLook = () =>
        {
            if (Environment.CurrentManagedThreadId != Volatile.Read(ref thread) || looks++ != turn || !Begin())
                return;

            // As far as it comes without this thread: to its end, or to where it waits for it.
            long started = Stopwatch.GetTimestamp();
            while (!coming!.HasEnded && Stopwatch.GetElapsedTime(started) < TimeSpan.FromMilliseconds(30))
                Thread.Yield();
        };
        long batches = 0;
        IActor owner = stage.World.Actors.Start("owner", () =>
        {
            for (bool isLast = false; !isLast;)
            {
                isLast = Volatile.Read(ref isOver);
                Reads(stage, Requests, length);
                stage.Ring.Submit();
                foreach (RingCompletion ended in stage.ReapEach(Requests, "N8"))
                {
                    if (ended.Status == Errno.Ok)
                        CheckRange(stage, data, ((int)ended.UserData - 1) * length, length, "N8", $"a read that ended well at {what}");
                }

                // The first batch has made the map: what counts are those that follow.
                Volatile.Write(ref thread, Environment.CurrentManagedThreadId);
                Volatile.Write(ref batches, batches + 1);
            }
        });
        stage.World.Eventually(() => Volatile.Read(ref begun) != 0 || Volatile.Read(ref batches) > 4 || owner.HasEnded, "N8", "requests do not end.");
        Begin();
        stage.World.Eventually(() => Volatile.Read(ref coming) is not null, "N8", "requests do not end.");
        stage.World.Ends(coming!, "N8", $"{what} under load did not come to its end: it waits for requests that do not end.");
        Volatile.Write(ref isOver, true);
        stage.World.Ends(owner, "N8", $"requests that were issued when {what} came have not ended.");
    }
}
