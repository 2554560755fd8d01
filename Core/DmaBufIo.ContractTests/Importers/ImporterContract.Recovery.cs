using System.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>Reset and removal under load (T11, N8), and DMA that fails (N6).</content>
public abstract partial class ImporterContract
{
    /// <summary>A reset ends what is in flight, each request once, and does not wait for what it would keep.</summary>
    [Fact]
    public virtual void T11_a_reset_under_load_comes_to_its_end() => InBothDesigns(stage =>
    {
        SkipUnless(ImporterCapabilities.Reset | ImporterCapabilities.KeepsData | ImporterCapabilities.MovesData);
        for (int round = 0; round < 3; round++)
        {
            EndUnderLoad(stage, stage.Target.Reset, "a reset");
            int length = stage.Blocks(4096);
            stage.CheckRead(0, 0, Bytes(round, length), "T11");
            stage.CheckWrite(length, 8192, Bytes(round + 10, length), "T11");
        }
    });

    /// <summary>After a reset no request uses the map of before.</summary>
    [Fact]
    public virtual void T11_a_reset_kills_the_maps() => OnStage(stage =>
    {
        SkipUnless(ImporterCapabilities.Reset);
        int length = stage.Blocks(4096);
        stage.CheckRead(0, 0, Bytes(1, length), "T11");
        for (int round = 0; round < 3; round++)
        {
            long made = stage.Token.MapsMade;
            stage.Target.Reset();
            stage.CheckRead(0, 0, Bytes(round, length), "T11");
            stage.World.Check(stage.Token.MapsMade > made, "T11", "a request after the reset used the map that was made before it.");
        }

        stage.World.Eventually(() => stage.Buffer.LiveTables == 1, "T8", "maps that a reset has killed were not unmapped.");
    });

    /// <summary>A removal ends what is in flight, each request once; from then on requests and registrations are answered <c>ENODEV</c>, and nothing stays mapped.</summary>
    [Fact]
    public virtual void T11_a_device_that_was_removed_under_load_answers_ENODEV() => InBothDesigns(stage =>
    {
        SkipUnless(ImporterCapabilities.Remove | ImporterCapabilities.MovesData);
        EndUnderLoad(stage, stage.Target.Remove, "a removal");
        int asked = 0;
        stage.World.Fabric.OnMap = mapping =>
        {
            if (mapping.Purpose == "contract")
                Interlocked.Increment(ref asked);
        };
        int length = stage.Blocks(4096);
        stage.Read(0, 0, length);
        stage.Write(0, 0, length, 2);
        foreach (RingCompletion ended in stage.Run("T11"))
            stage.World.Check(ended.Status == Errno.ENODEV, "T11", $"a request to a device that was removed ended with {ended.Status}.");
        Errno refused = Errno.Ok;
        try
        {
            stage.Ring.RegisterBuffer(1, stage.Registration);
        }
        catch (DmaBufIoException e)
        {
            refused = e.Errno;
        }

        stage.World.Check(asked == 0, "T11", "the buffer was to be mapped for a device that was removed: it is not marked as such.");
        stage.World.Check(refused == Errno.ENODEV, "T11", $"the registration of a buffer with a device that was removed was answered {refused}.");
        stage.World.Check(stage.Buffer.LiveTables == 0, "T11", $"{stage.Buffer.LiveTables} mappings of the buffer stay after the removal has returned.");
    });

    /// <summary>Every request ends once, one at a time and several at a time. A bio that ends twice is seen by its pool, before its place is another request's.</summary>
    [Fact]
    public virtual void N8_every_request_ends_once() => OnStage(stage =>
    {
        int length = stage.Blocks(4096);
        for (int batch = 1; batch <= 4; batch++)
        {
            byte[] data = Bytes(batch, batch * length);
            stage.Give(data, length);
            Reads(stage, batch, length);
            stage.Ring.Submit();
            foreach (RingCompletion ended in stage.ReapEach(batch, "N8"))
                stage.Ended(ended, length, "N8", $"a read of {batch} at once");
            stage.Expect(batch, length);
            for (int i = 0; i < batch; i++)
                stage.Write((long)i * length, (long)i * length, length, (ulong)i + 1);
            stage.Ring.Submit();
            foreach (RingCompletion ended in stage.ReapEach(batch, "N8"))
                stage.Ended(ended, length, "N8", $"a write of {batch} at once");
            stage.CheckEqual(data, stage.Take(batch, length), "N8", $"after {batch} writes at once the data");
        }
    });

    /// <summary>A DMA that fails ends its request with an error, once, and costs no other: not even when it fails more often than the queue has places.</summary>
    [Fact]
    public virtual void N6_requests_whose_DMA_fails_end_with_an_error_and_give_everything_back() => OnStage(stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData | ImporterCapabilities.KeepsData);
        const int Requests = 48;
        int length = stage.Blocks(512);
        stage.CheckRead(0, 0, Bytes(1, length));

        // More than a device has places and tags; a slow one has some seconds for it.
        long started = Stopwatch.GetTimestamp();
        for (int round = 0; round < 6 || (round < 90 && Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(5)); round++)
        {
            // One direction at a time: a driver has a way for each.
            bool isWrite = round % 2 == 1;
            stage.World.Fabric.OnDma = static dma => dma.Purpose == "contract" ? Errno.EFAULT : Errno.Ok;
            for (int i = 0; i < Requests; i++)
            {
                if (isWrite)
                    stage.Write((long)i * length, (long)i * length, length, (ulong)i + 1);
                else
                    stage.Read((long)i * length, (long)i * length, length, (ulong)i + 1);
            }

            stage.Ring.Submit();
            foreach (RingCompletion ended in stage.ReapEach(Requests, "N6"))
                stage.World.Check(ended.Status != Errno.Ok, "N6", $"a {(isWrite ? "write" : "read")} whose DMA failed ended well, with {ended.Bytes} bytes.");
            stage.World.Fabric.OnDma = null;
        }

        byte[] data = Bytes(2, Requests * length);
        stage.Target.Give(0, data);
        for (int i = 0; i < Requests; i++)
            stage.Read((long)i * length, (long)i * length, length, (ulong)i + 1);
        stage.Ring.Submit();
        foreach (RingCompletion ended in stage.ReapEach(Requests, "N6"))
            stage.Ended(ended, length, "N6", "a read after others whose DMA had failed");
        CheckPrefix(stage, data, "N6", "reads after others whose DMA had failed");
    });

    /// <summary>One DMA among many fails: its request, and no other.</summary>
    [Fact]
    public virtual void N6_a_DMA_that_fails_costs_its_own_request_alone() => OnStage(stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData | ImporterCapabilities.KeepsData);
        const int Requests = 16;
        int length = stage.Blocks(4096);

        // With gaps, so that a device which gathers neighbours has a DMA for each.
        int stride = 2 * length;
        for (int which = 0; which < Requests; which += 5)
        {
            byte[] data = Bytes(which, Requests * stride);
            stage.Target.Give(0, data);
            int left = which;
            stage.World.Fabric.OnDma = dma => dma.Purpose == "contract" && Interlocked.Decrement(ref left) == -1 ? Errno.EFAULT : Errno.Ok;
            for (int i = 0; i < Requests; i++)
                stage.Read((long)i * stride, (long)i * stride, length, (ulong)i + 1);
            stage.Ring.Submit();
            RingCompletion[] all = stage.ReapEach(Requests, "N6");
            stage.World.Fabric.OnDma = null;
            int failed = all.Count(static c => c.Status != Errno.Ok);
            stage.World.Check(failed == 1 || (failed == 0 && Can(ImporterCapabilities.Redundant)), "N6", $"one DMA failed, and {failed} of {Requests} requests ended with an error.");
            foreach (RingCompletion well in all.Where(static c => c.Status == Errno.Ok))
                CheckRange(stage, data, ((int)well.UserData - 1) * stride, length, "N6", "a read beside one whose DMA failed");
        }
    });

    /// <summary>A request that lies in several pieces of memory, of which one fails, whichever: it ends with an error.</summary>
    [Fact]
    public virtual void N6_a_request_of_which_one_piece_fails_ends_with_an_error() => OnStage(new StageSetup { Pieces = [.. Enumerable.Repeat(4096L, 16)] }, stage =>
    {
        SkipUnless(ImporterCapabilities.MovesData | ImporterCapabilities.KeepsData);
        SkipUnless(!Can(ImporterCapabilities.Redundant), "The device has its data several times: a piece that fails is fetched from elsewhere.");
        int length = stage.Blocks(16384);
        stage.CheckRead(0, 0, Bytes(1, length));
        foreach (bool isWrite in s_both)
        {
            // One DMA after the other, until there is none left to fail.
            for (int which = 0, left = 0; left <= 0; which++)
            {
                int until = which + 1;
                stage.World.Fabric.OnDma = dma => dma.Purpose == "contract" && Interlocked.Decrement(ref until) == 0 ? Errno.EFAULT : Errno.Ok;
                if (isWrite)
                    stage.Write(0, 0, length);
                else
                    stage.Read(0, 0, length);
                RingCompletion ended = stage.Run("N6")[0];
                stage.World.Fabric.OnDma = null;
                left = until;
                stage.World.Check(left > 0 || ended.Status != Errno.Ok, "N6", $"a {(isWrite ? "write" : "read")} of {length} bytes over several pieces ended well although DMA {which + 1} of it failed.");
            }
        }

        stage.CheckRead(0, 0, Bytes(2, length));
    });

    /// <summary>Requests are in flight and the device is in the middle of one, when something comes that ends them.</summary>
    private static void EndUnderLoad(ImporterStage stage, Action end, string what)
    {
        const int Requests = 16;
        int length = stage.Blocks(4096);
        byte[] data = Bytes(5, Requests * length);
        stage.Give(data, length);
        using var hold = new DmaHold(stage.World.Fabric, stage.Buffer.Buffer.Name);
        RingCompletion[] all = [];
        IActor owner = stage.World.Actors.Start("owner", () =>
        {
            Reads(stage, Requests, length);
            stage.Ring.Submit();
            all = stage.ReapEach(Requests, "N8");
        });
        stage.World.Eventually(() => hold.IsHeld || owner.HasEnded, "N8", "the device did not begin to move the data of a request.");
        IActor ending = stage.World.Actors.Start(what, end);

        // The DMA under way must end before a device stands still. What it has begun by then goes on step by step, slowly: what comes has the time to come before everything is done.
        long stepped = Stopwatch.GetTimestamp();
        stage.World.Eventually(
            () =>
            {
                if (Stopwatch.GetElapsedTime(stepped) < TimeSpan.FromMilliseconds(5))
                    return ending.HasEnded;
                stepped = Stopwatch.GetTimestamp();
                hold.Step();
                return ending.HasEnded;
            },
            "T11",
            $"{what} under load did not come to its end.");
        hold.Release();
        ending.Join();
        stage.World.Ends(owner, "N8", $"requests that were in flight at {what} have not ended.");
        foreach (RingCompletion well in all.Where(static c => c.Status == Errno.Ok))
            CheckRange(stage, data, ((int)well.UserData - 1) * length, length, "N8", $"a read that ended well at {what}");
    }

    private static void CheckRange(ImporterStage stage, byte[] data, int offset, int length, string rule, string what)
    {
        byte[] found = new byte[length];
        stage.Buffer.Read(offset, found);
        stage.CheckEqual(data[offset..(offset + length)], found, rule, what);
    }
}
