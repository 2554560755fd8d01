using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>Room, flushes and errors: what happens when a device takes no more, and when it fails.</content>
public abstract partial class FileContract
{
    /// <summary>Many requests on devices that take two bios at a time: each ends once, with its own bytes.</summary>
    [Fact]
    public virtual void R4_many_requests_on_a_device_with_little_room_all_end_once() => OnStage(
        stage =>
        {
            foreach (PuppetBlockDevice disk in stage.Disks)
                disk.QueueDepth = 2;
            // Of a large file its beginning: several requests find room in the buffer.
            long capacity = Math.Min(stage.Target.Capacity, 4 << 20);
            int length = stage.Blocks(capacity / 24);
            int count = (int)(capacity / length);
            int slots = (int)(stage.Buffer.Buffer.Size / length);
            byte[] file = Bytes(110, (int)capacity);
            for (int first = 0; first < count; first += slots)
            {
                int batch = Math.Min(slots, count - first);
                byte[] buffer = stage.FillBuffer(111 + first);
                for (int i = 0; i < batch; i++)
                {
                    stage.Write((first + i) * (long)length, i * (long)length, length, (ulong)i);
                    buffer.AsSpan(i * length, length).CopyTo(file.AsSpan((first + i) * length));
                }

                EndedOnce(stage, stage.Run(), batch, length, "a write");
            }

            stage.CheckBytes(file.AsSpan(0, count * length), stage.Target.Take(0, count * length), "R4", "many writes at once: the file");
            for (int first = 0; first < count; first += slots)
            {
                int batch = Math.Min(slots, count - first);
                byte[] buffer = stage.FillBuffer(112 + first);
                for (int i = 0; i < batch; i++)
                {
                    stage.Read((first + i) * (long)length, i * (long)length, length, (ulong)i);
                    file.AsSpan((first + i) * length, length).CopyTo(buffer.AsSpan(i * length));
                }

                EndedOnce(stage, stage.Run(), batch, length, "a read");
                stage.CheckBuffer(buffer, "R4", "many reads at once");
            }

            stage.CheckQuiet("R4", "many requests at once");
        },
        FileCapabilities.KeepsData | FileCapabilities.OnPuppets);

    /// <summary>A device without any room: the request waits, keeps no map meanwhile, and is issued when there is room.</summary>
    [Fact]
    public virtual void R4_a_request_that_finds_no_room_waits_without_a_map() => OnStage(
        stage =>
        {
            int length = stage.Blocks(8192);
            byte[] bytes = Bytes(113, length);
            stage.Target.Give(0, bytes);
            stage.Read(0, 0, length);
            stage.Ended(stage.Run1(), length, "R4", "a read before the devices are full");
            foreach (PuppetBlockDevice disk in stage.Disks)
                disk.QueueDepth = 0;
            byte[] expected = stage.FillBuffer(114);
            stage.Read(0, 4096, length);
            stage.Ring.Submit();
            stage.CheckQuiet("R4", "the devices have no room for a read");
            IActor mover = stage.World.Actors.Start("mover", () => stage.Buffer.Move());
            stage.World.Eventually(() => mover.HasEnded, "T16", "a request for which the devices have no room keeps the buffer in its place.");
            mover.Join();
            stage.CheckQuiet("R4", "the devices have no room for a read");
            foreach (PuppetBlockDevice disk in stage.Disks)
                disk.QueueDepth = int.MaxValue;
            stage.Ended(stage.Reap(1)[0], length, "R4", "a read that had to wait for room");
            bytes.CopyTo(expected, 4096);
            stage.CheckBuffer(expected, "R4", "a read that had to wait for room");
            stage.CheckQuiet("R4", "a read that had to wait for room");
        },
        FileCapabilities.KeepsData | FileCapabilities.OnPuppets);

    /// <summary>A request that has begun and finds no room for the rest goes on where it stopped: nothing twice, and nothing left out.</summary>
    [Fact]
    public virtual void R4_a_request_of_many_bios_goes_on_where_it_stopped() => OnStage(
        stage =>
        {
            int length = stage.Blocks(200_000);
            byte[] bytes = Bytes(115, length);
            stage.Target.Give(0, bytes);
            byte[] expected = stage.FillBuffer(116);
            foreach (PuppetBlockDevice disk in stage.Disks)
            {
                disk.QueueDepth = 1;
                disk.Hold = true;
            }

            var moved = new List<PuppetDma>();
            stage.World.Fabric.OnDma = dma =>
            {
                if (dma.Purpose == stage.Buffer.Buffer.Name)
                    moved.Add(dma);
                return Errno.Ok;
            };
            stage.Read(0, 8192, length);
            stage.Ring.Submit();
            var completions = new RingCompletion[1];
            stage.World.Eventually(
                () =>
                {
                    foreach (PuppetBlockDevice disk in stage.Disks)
                        disk.Finish(1);
                    stage.World.Check(moved.Sum(static m => m.Length) <= length, "R4", $"of a read of {length} bytes pieces are transferred again and again.");
                    stage.Ring.Submit();
                    return stage.Ring.Reap(completions) == 1;
                },
                "R4",
                "a read that is larger than the room of its devices does not end.");
            stage.World.Fabric.OnDma = null;
            stage.Ended(completions[0], length, "R4", $"a read of {length} bytes in many bios");
            bytes.CopyTo(expected, 8192);
            stage.CheckBuffer(expected, "R4", "a read in many bios");
            stage.World.Check(moved.Sum(static m => m.Length) == length, "R4", $"of a read of {length} bytes {moved.Sum(static m => m.Length)} were transferred.");
            PuppetDma[] twice = [.. moved.GroupBy(static m => (m.Device, m.Address)).Where(static g => g.Count() > 1).Select(static g => g.First())];
            stage.World.Check(twice.Length == 0, "R4", $"of a read of {length} bytes {twice.Length} pieces were transferred twice, for example the one at 0x{twice.FirstOrDefault().Address:x} by {twice.FirstOrDefault().Device}.");
            stage.CheckQuiet("R4", "a read in many bios");
        },
        FileCapabilities.KeepsData | FileCapabilities.OnPuppets);

    /// <summary>A flush goes to every device, and ends when the last of them has ended it.</summary>
    [Fact]
    public virtual void R4_a_flush_reaches_every_device_and_waits_for_each() => OnStage(
        stage =>
        {
            var flushed = new Dictionary<string, int>();
            foreach (PuppetBlockDevice disk in stage.Disks)
            {
                flushed[disk.Name] = 0;
                disk.Hold = true;
                string name = disk.Name;
                disk.OnSubmit = bio => flushed[name] += bio.Operation == BioOperation.Flush ? 1 : 0;
            }

            stage.Ring.AddFile(stage.File);
            stage.Flush();
            stage.Ring.Submit();

            // All at once, or one after the other, in any order.
            var ended = new HashSet<PuppetBlockDevice>();
            while (ended.Count < stage.Disks.Count)
            {
                PuppetBlockDevice? next = null;
                stage.World.Eventually(
                    () =>
                    {
                        stage.CheckQuiet("R4", $"a flush that {ended.Count} of {stage.Disks.Count} devices have ended");
                        next = stage.Disks.FirstOrDefault(static d => d.Held > 0);
                        return next is not null;
                    },
                    "R4",
                    $"a flush has come to {ended.Count} of {stage.Disks.Count} devices and does not go on.");
                next!.Finish();
                ended.Add(next);
            }

            Hold(stage, false);
            stage.Ended(stage.Reap(1)[0], 0, "R4", "a flush");
            foreach ((string disk, int count) in flushed)
                stage.World.Check(count == 1, "R4", $"a flush of the file came to {disk} {count} times.");
        },
        FileCapabilities.OnPuppets);

    /// <summary>A flush for which some devices have no room waits like any request, and is done once on each.</summary>
    [Fact]
    public virtual void R4_a_flush_that_finds_no_room_is_not_lost() => OnStage(
        stage =>
        {
            stage.Ring.AddFile(stage.File);
            for (int full = 0; full < stage.Disks.Count; full++)
            {
                int flushes = 0;
                PuppetBlockDevice disk = stage.Disks[full];
                disk.QueueDepth = 0;
                disk.OnSubmit = _ => flushes += disk.QueueDepth == 0 ? 0 : 1;
                stage.Flush();
                stage.Ring.Submit();
                stage.CheckQuiet("R4", $"a flush for which {disk.Name} has no room");
                disk.QueueDepth = int.MaxValue;
                stage.Ended(stage.Reap(1)[0], 0, "R4", $"a flush for which {disk.Name} had no room");
                stage.World.Check(flushes == 1, "R4", $"a flush for which {disk.Name} had no room was done there {flushes} times.");
                disk.OnSubmit = null;
            }
        },
        FileCapabilities.OnPuppets);

    /// <summary>An error of a device ends its request once, with that error, and the next request succeeds.</summary>
    [Fact]
    public virtual void R4_an_error_of_a_device_ends_its_request_once() => OnStage(
        stage =>
        {
            int length = stage.Blocks(64 << 10);
            foreach (PuppetBlockDevice disk in stage.Disks)
            {
                int failed = 0;
                disk.FailWith = Errno.EIO;
                for (long offset = 0; offset + length <= stage.Target.Capacity; offset += length)
                {
                    int bios = 0;
                    disk.OnSubmit = _ => bios++;
                    stage.Read(offset, 0, length);
                    RingCompletion ended = stage.Run1();
                    Errno expected = bios == 0 ? Errno.Ok : Errno.EIO;
                    stage.World.Check(ended.Status == expected, "R4", $"{disk.Name} fails all {bios} bios of a read with EIO, and the read ended with {ended.Status}.");
                    stage.CheckQuiet("R4", "a read that failed");
                    failed += bios == 0 ? 0 : 1;
                }

                stage.World.Check(failed != 0, "R4", $"reads of the whole file did not come to {disk.Name}.");
                disk.OnSubmit = null;
                disk.FailWith = Errno.Ok;
                for (long offset = 0; offset + length <= stage.Target.Capacity; offset += length)
                {
                    stage.Read(offset, 0, length);
                    stage.Ended(stage.Run1(), length, "R4", "a read after one that failed");
                }
            }
        },
        FileCapabilities.KeepsData | FileCapabilities.OnPuppets);

    private static void EndedOnce(FileStage stage, RingCompletion[] completions, int count, long length, string what)
    {
        foreach (RingCompletion completion in completions)
            stage.Ended(completion, length, "R4", $"{what} among many");
        int different = completions.Select(static c => c.UserData).Distinct().Count();
        stage.World.Check(different == count, "R4", $"of {count} requests {different} have ended, some of them twice.");
    }
}
