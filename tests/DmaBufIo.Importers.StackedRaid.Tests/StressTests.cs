using System.Diagnostics;
using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Pci.Model;
using DmaBufIo.Rings;
using DmaBufIo.Sync;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>
/// Everything at once on real threads: transfers through composite maps of RAID 0 over RAID 1, buffers that move one by one and two in one acquire context, members lost, replaced and reset two at a
/// time, copying, registrations that come and go. Data stays exact, counts balance, and nobody waits for more than a second.
/// </summary>
public sealed class StressTests
{
    private const long DiskSize = 1 << 20;
    private const int Block = 4096;
    private const int Workers = 2;
    private const int BlocksEach = 128;

    /// <summary>Transfers; the long run has a million (tests/long/stacked-stress.sh).</summary>
    private static long Transfers => long.TryParse(Environment.GetEnvironmentVariable("DMABUFIO_STRESS_TRANSFERS"), out long all) ? all : 100_000;

    /// <param name="ownThread">True when each controller works on a thread of its own, and parts of a request end at any time; else they end when somebody looks.</param>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Transfers_stay_exact_while_buffers_move_and_members_come_and_go(bool ownThread)
    {
        var longest = new List<LongWait>();
        void OnWait(LongWait wait)
        {
            lock (longest)
                longest.Add(wait);
        }

        DmaBufIoDiagnostics.LongWaitDetected += OnWait;
        try
        {
            SetRig.With(rig => Run(rig, ownThread));
        }
        finally
        {
            DmaBufIoDiagnostics.LongWaitDetected -= OnWait;
        }

        Assert.Empty(longest);
    }

    private static void Run(SetRig rig, bool ownThread)
    {
        var options = new NvmeModelOptions { OwnThread = ownThread, MaxQueues = 64 };
        BlockDevice[] disks = [.. Enumerable.Range(0, 4).Select(_ => rig.Disk(DiskSize, options))];
        var left = (MirrorSet)rig.Set(new Raid1Factory(), null, disks[0], disks[1]);
        var right = (MirrorSet)rig.Set(new Raid1Factory(), null, disks[2], disks[3]);
        BlockDevice set = rig.Set(new Raid0Factory(), "16K", left, right);
        MovingExporter[] buffers = [.. Enumerable.Range(0, Workers).Select(static i => MovingExporter.Create($"stress{i}", BlocksEach * Block))];
        var state = new State(ownThread ? Transfers / 5 : Transfers); // waking threads costs time
        var threads = new List<Thread>();
        for (int i = 0; i < Workers; i++)
        {
            int worker = i;
            threads.Add(state.Start($"worker {i}", () => Transfer(state, set, buffers[worker], worker)));
        }

        threads.Add(state.Start("mover", () => Move(state, buffers)));
        threads.Add(state.Start("operator", () => Disturb(state, rig, left, right, options)));
        foreach (Thread thread in threads)
            thread.Join();
        state.Failure?.Throw();
        Assert.True(state.Moves > 10 && state.Losses > 2 && state.Resets > 2 && state.Registrations > 2,
            $"{state.Moves} moves, {state.Losses} losses, {state.Resets} resets, {state.Registrations} registrations: too little happened");
        foreach (MovingExporter buffer in buffers)
        {
            Assert.Equal((1, 0), (buffer.Buffer.References, buffer.OldPlaces));
            buffer.Buffer.Put();
        }
    }

    /// <summary>Writes blocks of its own and reads them back, several at a time; gives its registration back now and then.</summary>
    private static void Transfer(State state, BlockDevice set, MovingExporter exporter, int worker)
    {
        var random = new Random(worker);
        var versions = new int[BlocksEach];
        long start = worker * BlocksEach * (long)Block;
        var file = new BlockDeviceFile(set);
        var completions = new RingCompletion[16];
        using (var ring = new Ring(new RingOptions { Name = $"ring {worker}", Entries = 16 }))
        {
            while (state.GoesOn)
            {
                ring.RegisterBuffer(0, new BufferRegistration { Buffer = exporter.Buffer, File = file });
                for (int round = 0; round < 200 && state.GoesOn; round++)
                {
                    int[] blocks = [.. Enumerable.Range(0, 8).Select(_ => random.Next(BlocksEach)).Distinct()];
                    foreach (int block in blocks)
                        Stamp(exporter, block, ++versions[block]);
                    Do(ring, completions, blocks, b => ring.TryWriteFixed(file, 0, b * Block, Block, start + (b * Block), (ulong)b));
                    foreach (int block in blocks)
                        Stamp(exporter, block, -1);
                    Do(ring, completions, blocks, b => ring.TryReadFixed(file, 0, b * Block, Block, start + (b * Block), (ulong)b));
                    foreach (int block in blocks)
                        Check(exporter, block, versions[block]);
                    state.Count(2 * blocks.Length);
                }

                RemovedBuffer removed = ring.RemoveBuffer(0);
                Assert.Equal(Errno.Ok, removed.WaitReleased());
                Interlocked.Increment(ref state.Registrations);
            }
        }

        file.Put();
        Assert.True(file.IsClosed);
    }

    private static void Do(Ring ring, RingCompletion[] completions, int[] blocks, Func<int, bool> prepare)
    {
        foreach (int block in blocks)
            Assert.True(prepare(block));
        ring.Submit();
        for (int left = blocks.Length; left > 0;)
        {
            int count = ring.Reap(completions, 1);
            foreach (RingCompletion completion in completions.AsSpan(0, count))
                Assert.True(completion is { Status: Errno.Ok, Bytes: Block }, $"block {completion.UserData}: {completion.Status}, {completion.Bytes} bytes");
            left -= count;
        }
    }

    // The buffer may move at any moment: its memory is touched with its lock held.
    private static void Stamp(MovingExporter exporter, int block, int version)
    {
        using ReservationGuard guard = exporter.Buffer.Reservation.Lock();
        Span<byte> memory = exporter.Region.Span(block * Block, Block);
        for (int sector = 0; sector < Block; sector += 512)
        {
            BitConverter.TryWriteBytes(memory[sector..], block);
            BitConverter.TryWriteBytes(memory[(sector + 508)..], version);
        }
    }

    private static void Check(MovingExporter exporter, int block, int version)
    {
        using ReservationGuard guard = exporter.Buffer.Reservation.Lock();
        Span<byte> memory = exporter.Region.Span(block * Block, Block);
        for (int sector = 0; sector < Block; sector += 512)
        {
            Assert.Equal(
                (block, version, sector),
                (BitConverter.ToInt32(memory[sector..]), BitConverter.ToInt32(memory[(sector + 508)..]), sector));
        }
    }

    /// <summary>Moves one buffer, or invalidates both in one acquire context (T15, T17).</summary>
    private static void Move(State state, MovingExporter[] buffers)
    {
        var random = new Random(99);
        while (state.GoesOn)
        {
            if (random.Next(3) != 0)
            {
                buffers[random.Next(buffers.Length)].Move();
            }
            else
            {
                var context = new AcquireContext();
                Errno first = buffers[0].Buffer.Reservation.TryLock(out ReservationGuard one, context);
                if (first != Errno.Ok)
                    continue;
                using (one)
                {
                    if (buffers[1].Buffer.Reservation.TryLock(out ReservationGuard two, context) != Errno.Ok)
                        continue;
                    using (two)
                    {
                        using var batch = new InvalidationBatch();
                        buffers[0].Buffer.CollectInvalidation(batch, one.Held);
                        buffers[1].Buffer.CollectInvalidation(batch, two.Held);
                        batch.Complete();
                    }
                }
            }

            Interlocked.Increment(ref state.Moves);
            state.Pause(TimeSpan.FromMilliseconds(1));
        }
    }

    /// <summary>Loses and replaces members, and resets two at once.</summary>
    private static void Disturb(State state, SetRig rig, MirrorSet left, MirrorSet right, NvmeModelOptions options)
    {
        var random = new Random(7);
        while (state.GoesOn)
        {
            MirrorSet mirror = random.Next(2) == 0 ? left : right;
            switch (random.Next(3))
            {
                case 0:
                    int lost = random.Next(2);
                    BlockDevice gone = mirror.Copies[lost].Device;
                    if (random.Next(2) == 0)
                        mirror.Fail(lost);
                    else
                        rig.BindingOf(gone).Dispose();
                    var watch = Stopwatch.StartNew();
                    while (mirror.Members[lost].State != "Missing")
                    {
                        Assert.True(watch.Elapsed < TimeSpan.FromSeconds(30), "a removed member is not noticed");
                        Thread.Yield();
                        if (!state.GoesOn)
                            break;
                    }

                    if (mirror.Members[lost].State != "Missing")
                        mirror.Fail(lost);
                    mirror.Replace(lost, rig.Disk(DiskSize, options));
                    Assert.Equal(Errno.Ok, mirror.WaitInSync());
                    Interlocked.Increment(ref state.Losses);
                    break;
                case 1:
                    IPciBindings(rig, mirror, out var a, out var b);
                    var other = new Thread(a.Reset);
                    other.Start();
                    b.Reset();
                    other.Join();
                    Interlocked.Increment(ref state.Resets);
                    break;
                default:
                    state.Pause(TimeSpan.FromMilliseconds(2));
                    break;
            }
        }
    }

    private static void IPciBindings(SetRig rig, MirrorSet mirror, out Plugins.IPciBinding a, out Plugins.IPciBinding b)
    {
        a = rig.BindingOf(mirror.Copies[0].Device);
        b = rig.BindingOf(mirror.Copies[1].Device);
    }

    private sealed class State(long transfers)
    {
        internal long Moves;
        internal long Losses;
        internal long Resets;
        internal long Registrations;
        private readonly WaitQueue _never = new();
        private long _left = transfers;
        private System.Runtime.ExceptionServices.ExceptionDispatchInfo? _failure;

        internal System.Runtime.ExceptionServices.ExceptionDispatchInfo? Failure => _failure;

        internal bool GoesOn => Volatile.Read(ref _failure) is null && Interlocked.Read(ref _left) > 0;

        internal void Count(int done) => Interlocked.Add(ref _left, -done);

        /// <summary>Lets the others work.</summary>
        internal void Pause(TimeSpan time) => _never.Wait(static () => false, new WaitReason("the others") { IsIdle = true }, slice: time);

        internal Thread Start(string name, Action work)
        {
            var thread = new Thread(() =>
            {
                try
                {
                    work();
                }
                catch (Exception e)
                {
                    Interlocked.CompareExchange(ref _failure, System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(e), null);
                }
            })
            {
                Name = name,
                IsBackground = true,
            };
            thread.Start();
            return thread;
        }
    }
}
