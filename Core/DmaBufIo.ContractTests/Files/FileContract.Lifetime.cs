using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>What a file holds, and when it lets go: tokens, queues, references.</content>
public abstract partial class FileContract
{
    /// <summary>The application may drop its reference first: the file lives until the last registration and ring are gone, and no longer.</summary>
    [Fact]
    public virtual void T2_a_file_lives_until_its_registrations_end() => OnStage(stage =>
    {
        int length = stage.Blocks(4096);
        byte[] bytes = Bytes(120, length);
        stage.Target.Give(0, bytes);
        stage.File.Put();
        stage.World.Check(!stage.File.IsClosed, "T2", "a file was closed although a buffer is registered with it.");
        byte[] expected = stage.FillBuffer(121);
        bytes.CopyTo(expected, 4096);
        stage.Read(0, 4096, length);
        stage.Ended(stage.Run1("T2"), length, "T2", "a read of a file whose application has dropped its reference");
        stage.CheckBuffer(expected, "T2", "a read of a file whose application has dropped its reference");
        stage.CloseRing();
        stage.World.Eventually(() => stage.File.IsClosed, "T2", () => $"{stage.File.References} references on the file are held although every registration and every ring has ended.");
    });

    /// <summary>A registration that was removed with requests in flight lives until they have ended, and they end well.</summary>
    [Fact]
    public virtual void R6_a_registration_that_is_removed_lives_until_its_requests_end() => OnStage(
        stage =>
        {
            int length = stage.Blocks(64 << 10);
            byte[] bytes = Bytes(122, length);
            stage.Target.Give(0, bytes);
            byte[] expected = stage.FillBuffer(123);
            bytes.CopyTo(expected, 8192);
            Hold(stage, true);
            stage.Read(0, 8192, length);
            stage.Ring.Submit();
            RemovedBuffer removed = stage.Ring.RemoveBuffer(0);
            stage.CheckQuiet("R6", "a read that the devices hold");
            stage.World.Check(!removed.IsReleased, "R6", "a registration was released although a request of it is in flight.");
            Hold(stage, false);
            stage.Ended(stage.Reap(1, "R6")[0], length, "R6", "a read whose registration was removed");
            stage.CheckBuffer(expected, "R6", "a read whose registration was removed");
            using var limit = new CancellationTokenSource(Hang.Limit);
            stage.World.Check(removed.WaitReleased(limit.Token) == Errno.Ok, "T10", $"a registration that was removed does not come to its end.{Environment.NewLine}{Hang.State()}");
            stage.Register();
        },
        FileCapabilities.KeepsData | FileCapabilities.OnPuppets);

    /// <summary>The queues and tokens that a file has opened on its devices are closed with it.</summary>
    [Fact]
    public virtual void T2_what_a_file_has_opened_on_its_devices_it_closes() => OnStage(
        stage =>
        {
            stage.Read(0, 0, stage.Blocks(4096));
            stage.Run("T2");
            foreach (PuppetBlockDevice disk in stage.Disks)
                stage.World.Check(disk.LiveTokens > 0, "B6", $"a buffer was registered with the file, and disk {disk.Name} under it was not asked for its part of the token.");
            stage.CloseRing();
            stage.Target.Dispose();
            foreach (PuppetBlockDevice disk in stage.Disks)
            {
                stage.World.Eventually(() => disk.LiveMaps == 0 && disk.LiveTokens == 0, "T2", () => $"{disk.LiveTokens} tokens and {disk.LiveMaps} maps of {disk.Name} are left after the file was closed.");
                stage.World.Check(disk.OpenQueues == 0, "T2", $"{disk.OpenQueues} queues of {disk.Name} are open after the file was closed.");
            }
        },
        FileCapabilities.OnPuppets);

    /// <summary>A device that refuses the buffer makes the registration fail, and nothing of it is left on the others.</summary>
    [Fact]
    public virtual void T2_a_registration_that_a_device_refuses_leaves_nothing_behind() => OnStage(
        stage =>
        {
            foreach (PuppetBlockDevice disk in stage.Disks)
            {
                int[] tokens = [.. stage.Disks.Select(static d => d.LiveTokens)];
                (int Buffer, int File, int Attachments) before = (stage.Buffer.Buffer.References, stage.File.References, stage.Buffer.Buffer.Attachments);
                disk.FailSetup = static () => new DmaBufIoException(Errno.EREMOTEIO, "Contract", "disk", "the disk does not reach the buffer", "This failure is the contract's: leave nothing behind");
                Exception? refused = Record.Exception(() => stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Buffer.Buffer, File = stage.File }));
                disk.FailSetup = null;
                stage.World.Check(refused is DmaBufIoException { Errno: Errno.EREMOTEIO }, "T2", $"{disk.Name} refused the buffer with EREMOTEIO, and the registration {(refused is null ? "succeeded" : $"threw {refused.Message}")}.");
                (int Buffer, int File, int Attachments) after = (stage.Buffer.Buffer.References, stage.File.References, stage.Buffer.Buffer.Attachments);
                stage.World.Check(after == before, "T2", $"references on the buffer, references on the file and attachments were {before} before a registration that failed, and are {after}.");
                stage.World.Check(tokens.SequenceEqual(stage.Disks.Select(static d => d.LiveTokens)), "T2", "a registration that failed has left a disk's part of its token behind.");
            }

            stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Buffer.Buffer, File = stage.File });
            RemovedBuffer removed = stage.Ring.RemoveBuffer(1);
            stage.World.Check(removed.WaitReleased(TestContext.Current.CancellationToken) == Errno.Ok, "T10", "a registration does not come to its end.");
        },
        FileCapabilities.OnPuppets);

    /// <summary>A device that cannot map the buffer ends the request with its error, and leaves no map of the others.</summary>
    [Fact]
    public virtual void T12_a_map_that_a_device_refuses_leaves_no_map_of_the_others() => OnStage(
        stage =>
        {
            int length = stage.Blocks(4096);
            foreach (PuppetBlockDevice disk in stage.Disks)
            {
                stage.Buffer.Move();
                disk.FailMap = static () => new DmaBufIoException(Errno.ENOMEM, "Contract", "disk", "there is no room for a map", "This failure is the contract's: leave nothing mapped");
                stage.Read(0, 0, length);
                RingCompletion ended = stage.Run1("T12");
                disk.FailMap = null;
                stage.World.Check(ended.Status == Errno.ENOMEM, "T12", $"{disk.Name} could not map the buffer (ENOMEM), and a read ended with {ended.Status}.");
                stage.World.Eventually(
                    () => stage.Disks.All(static d => d.LiveMaps == 0),
                    "T12",
                    $"{stage.Disks.Sum(static d => d.LiveMaps)} maps of other disks are left after {disk.Name} could not map the buffer.");
                stage.Read(0, 0, length);
                stage.Ended(stage.Run1("T12"), length, "T12", $"a read after one for which {disk.Name} could not map the buffer");
            }
        },
        FileCapabilities.OnPuppets);

    /// <summary>A request in part keeps its one reference until its last bio has ended: a move waits for all of it.</summary>
    [Fact]
    public virtual void T16_a_move_waits_for_the_whole_of_a_request_in_part() => OnStage(
        stage =>
        {
            int length = stage.Blocks(150_000);
            byte[] bytes = Bytes(124, length);
            stage.Target.Give(0, bytes);
            byte[] expected = stage.FillBuffer(125);
            bytes.CopyTo(expected, 4096);
            foreach (PuppetBlockDevice disk in stage.Disks)
                disk.QueueDepth = 1;
            Hold(stage, true);
            stage.Read(0, 4096, length);
            stage.Ring.Submit();
            IActor mover = stage.World.Actors.Start("mover", () => stage.Buffer.Move());
            mover.UntilBlocked();
            var completions = new RingCompletion[1];
            stage.World.Eventually(
                () =>
                {
                    if (mover.HasEnded && stage.Ring.InFlight != 0 && stage.Disks.Any(static d => d.Held != 0))
                        throw stage.World.Broken("T16", "the buffer has moved although a request is in part: it has bios with its devices.");
                    foreach (PuppetBlockDevice disk in stage.Disks)
                        disk.Finish(1);
                    stage.Ring.Submit();
                    return stage.Ring.Reap(completions) == 1;
                },
                "T16",
                "a read under which the buffer moves does not end.");
            stage.Ended(completions[0], length, "T16", "a read under which the buffer moved");
            stage.World.Eventually(() => mover.HasEnded, "T16", "the buffer does not move although the request under it has ended.");
            mover.Join();
            stage.CheckBuffer(expected, "T16", "a read under which the buffer moved");
        },
        FileCapabilities.KeepsData | FileCapabilities.OnPuppets);

    /// <summary>A file whose devices are gone says so, and takes no registrations.</summary>
    [Fact]
    public virtual void T11_a_file_whose_devices_are_gone_says_so() => OnStage(
        stage =>
        {
            foreach (PuppetBlockDevice disk in stage.Disks)
                disk.Device.Remove();
            stage.World.Check(stage.File.IsRemoved, "T11", "the devices under the file were removed, and the file does not say so.");
            Exception? refused = Record.Exception(() => stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = stage.Buffer.Buffer, File = stage.File }));
            stage.World.Check(refused is DmaBufIoException { Errno: Errno.ENODEV }, "T11", $"a registration with a file whose devices are gone is refused by ENODEV; {refused?.Message ?? "it was taken"}");
            stage.Read(0, 0, stage.Blocks(4096));
            stage.Refused(stage.Run1("T11"), Errno.ENODEV, "T11", "a read of a file whose devices are gone");
        },
        FileCapabilities.OnPuppets);

    private static void Hold(FileStage stage, bool hold)
    {
        foreach (PuppetBlockDevice disk in stage.Disks)
        {
            disk.Hold = hold;
            if (!hold)
                disk.Finish();
        }
    }
}
