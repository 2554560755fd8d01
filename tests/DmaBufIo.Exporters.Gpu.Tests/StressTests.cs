using System.Runtime.ExceptionServices;
using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Diagnostics;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Importers.Rnic;
using DmaBufIo.Importers.Rnic.Hardware;
using DmaBufIo.Plugins;
using DmaBufIo.Rdma;
using DmaBufIo.Rings;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>
/// Everything at once on real threads: buffers that are evicted and restored while drives and network cards transfer to and from them, jobs on them, users who press the memory.
/// </summary>
public sealed class StressTests
{
    private const int Block = 4096;
    private const int Blocks = 64;   // for the drive, from the start
    private const int Messages = 16; // for the network, behind them

    /// <summary>Transfers; the long run has a million (tests/long/gpu-stress.sh).</summary>
    private static long Transfers => long.TryParse(Environment.GetEnvironmentVariable("DMABUFIO_STRESS_TRANSFERS"), out long all) ? all : 40_000;

    [Fact]
    public void Transfers_stay_exact_while_their_buffers_are_evicted_and_restored_and_the_GPU_works_on_them()
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
            using var rig = new GpuRig();
            Run(rig);
        }
        finally
        {
            DmaBufIoDiagnostics.LongWaitDetected -= OnWait;
        }

        Assert.Empty(longest);
    }

    private static void Run(GpuRig rig)
    {
        GpuBuffer[] buffers = [.. Enumerable.Range(0, 2).Select(i => rig.Buffer($"stress{i}", (Blocks + Messages + 1) * Block, "vram=4M"))];
        BlockDevice[] disks = [rig.Disk("hb0/rp1", ownThread: false), rig.Disk("hb0/rp2", ownThread: true)];
        long remaining = Transfers;
        IMemoryPressure? current = null;
        ExceptionDispatchInfo? failure = null;
        using (IMemoryPressure pressure = rig.Factory.Press(buffers[0].Buffer))
        {
            current = pressure;
            Thread[] threads =
            [
                .. Enumerable.Range(0, 2).Select(i => Start(() => Transfer(rig, disks[i], buffers[i], i))),
                Start(() => Send(rig, buffers)),
                Start(() => Compute(rig, buffers)),
            ];
            foreach (Thread thread in threads)
                thread.Join();
            failure?.Throw();
            Assert.Null(pressure.Failure);
        }

        // Until all is transferred, and the buffer has moved often enough meanwhile: how quickly either comes about depends on the machine.
        bool GoesOn() => failure is null && (Interlocked.Read(ref remaining) > 0 || current is { Failure: null, Moves: < 12 });

        Thread Start(Action action)
        {
            var thread = new Thread(() =>
            {
                try
                {
                    action();
                }
                catch (Exception e) when (e is not OutOfMemoryException)
                {
                    failure ??= ExceptionDispatchInfo.Capture(e);
                }
            });
            thread.Start();
            return thread;
        }

        void Transfer(GpuRig transferring, BlockDevice disk, GpuBuffer buffer, int seed)
        {
            var random = new Random(seed);
            int[] versions = new int[Blocks];
            using GpuRing ring = transferring.Open(disk, buffer);
            while (GoesOn())
            {
                int[] blocks = [.. Enumerable.Range(0, 8).Select(_ => random.Next(Blocks)).Distinct()];
                foreach (int block in blocks)
                    Touch(buffer, block, memory => Stamp(memory, block, ++versions[block]));
                Do(ring, isWrite: true, blocks);
                foreach (int block in blocks)
                    Touch(buffer, block, static memory => memory.Clear());
                Do(ring, isWrite: false, blocks);
                foreach (int block in blocks)
                    Touch(buffer, block, memory => Check(memory, block, versions[block]));
                Interlocked.Add(ref remaining, -2 * blocks.Length);
            }
        }

        void Send(GpuRig sending, GpuBuffer[] all)
        {
            // From the first buffer to the second and back again, both of which drives use at the same time.
            var wire = new RnicWire();
            using var left = new RnicDevice(new RnicOptions { Name = "left", Location = DeviceLocation.Parse("hb0/rp3") }, wire, sending.Iommu);
            using var right = new RnicDevice(new RnicOptions { Name = "right", Location = DeviceLocation.Parse("hb0/rp4") }, wire, sending.Iommu);
            using RdmaQueuePair sender = left.CreateQueuePair();
            using RdmaQueuePair receiver = right.CreateQueuePair();
            sender.Connect(receiver.Address);
            receiver.Connect(sender.Address);
            RdmaMemoryRegion here = left.RegisterMemory(all[0].Buffer, RdmaAccess.LocalWrite);
            RdmaMemoryRegion there = right.RegisterMemory(all[1].Buffer, RdmaAccess.LocalWrite | RdmaAccess.RemoteRead);
            var completions = new RdmaCompletion[Messages];
            for (int version = 1; GoesOn(); version++)
            {
                for (int i = 0; i < Messages; i++)
                {
                    int block = Blocks + i;
                    Touch(all[0], block, memory => Stamp(memory, block, version));
                    Touch(all[1], block, static memory => memory.Clear());
                    Assert.Equal(Errno.Ok, receiver.PostReceive(RdmaWorkRequest.Receive((ulong)i, there, block * Block, Block)));
                }

                for (int i = 0; i < Messages; i++)
                    Assert.Equal(Errno.Ok, sender.PostSend(RdmaWorkRequest.Send((ulong)i, here, (Blocks + i) * Block, Block)));
                Await(receiver.ReceiveCompletions);
                Await(sender.SendCompletions);
                for (int i = 0; i < Messages; i++)
                {
                    int block = Blocks + i;
                    Touch(all[1], block, memory => Check(memory, block, version));
                    Touch(all[0], block, static memory => memory.Clear());
                    Assert.Equal(Errno.Ok, sender.PostSend(new RdmaWorkRequest((ulong)i, RdmaOpcode.RdmaRead, here.LocalKey, block * Block, Block, there.RemoteKey, block * Block)));
                }

                Await(sender.SendCompletions);
                for (int i = 0; i < Messages; i++)
                {
                    int block = Blocks + i;
                    Touch(all[0], block, memory => Check(memory, block, version));
                }

                Interlocked.Add(ref remaining, -2 * Messages);
            }

            here.Deregister();
            there.Deregister();

            void Await(RdmaCompletionQueue queue)
            {
                for (int got = 0; got < Messages;)
                {
                    int count = queue.Poll(completions);
                    Assert.All(completions[..count], static c => Assert.Equal((RdmaStatus.Success, Block), (c.Status, c.Length)));
                    got += count;
                    if (count == 0)
                        Thread.Yield();
                }
            }
        }

        void Compute(GpuRig computing, GpuBuffer[] all)
        {
            for (int i = 0; GoesOn(); i++)
            {
                // The last block is the GPU's own.
                GpuBuffer buffer = all[i % all.Length];
                computing.Factory.Fill(buffer.Buffer, (Blocks + Messages) * Block, Block, (byte)i);
                IComputeJob hash = computing.Factory.Hash(buffer.Buffer, (Blocks + Messages) * Block, Block);
                hash.Fence.Wait();
                byte[] expected = new byte[Block];
                expected.AsSpan().Fill((byte)i);
                Assert.Equal(System.Security.Cryptography.SHA256.HashData(expected), hash.Result.ToArray());
            }
        }
    }

    private static void Do(GpuRing ring, bool isWrite, int[] blocks)
    {
        var completions = new RingCompletion[blocks.Length];
        foreach (int block in blocks)
            Assert.True(isWrite ? ring.Ring.TryWriteFixed(ring.File, 0, block * Block, Block, block * Block, (ulong)block) : ring.Ring.TryReadFixed(ring.File, 0, block * Block, Block, block * Block, (ulong)block));
        ring.Ring.Submit();
        for (int left = blocks.Length; left > 0;)
        {
            int count = ring.Ring.Reap(completions, 1);
            foreach (RingCompletion completion in completions.AsSpan(0, count))
                Assert.Equal(new RingCompletion(completion.UserData, Errno.Ok, Block), completion);
            left -= count;
        }
    }

    private delegate void OnMemory(Span<byte> memory);

    // As the CPU may: with the lock held and behind moves and jobs.
    private static void Touch(GpuBuffer buffer, int block, OnMemory use)
    {
        using ReservationGuard guard = buffer.Buffer.Reservation.Lock();
        Assert.Equal(Errno.Ok, buffer.Buffer.Reservation.Wait(FenceUsage.Read));
        long at = block * (long)Block;
        foreach (DmaBufIo.Memory.MemoryRange range in buffer.Place.Memory)
        {
            if (at < range.Length)
            {
                use(range.Region.Span(range.Offset + at, Block));
                return;
            }

            at -= range.Length;
        }

        Assert.Fail("the block is nowhere");
    }

    private static void Stamp(Span<byte> memory, int block, int version)
    {
        for (int sector = 0; sector < Block; sector += 512)
        {
            BitConverter.TryWriteBytes(memory[sector..], block);
            BitConverter.TryWriteBytes(memory[(sector + 508)..], version);
        }
    }

    private static void Check(Span<byte> memory, int block, int version)
    {
        for (int sector = 0; sector < Block; sector += 512)
            Assert.Equal((block, version), (BitConverter.ToInt32(memory[sector..]), BitConverter.ToInt32(memory[(sector + 508)..])));
    }
}
