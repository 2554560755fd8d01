using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

public class ConcurrencyTests
{
    private static TimeSpan TooLong => TimeSpan.FromSeconds(30);

    [Theory]
    [InlineData(IommuMode.Strict)]
    [InlineData(IommuMode.Lazy)]
    [InlineData(IommuMode.Passthrough)]
    public void F7_unmap_returns_only_after_the_piece_under_way_was_moved(IommuMode mode)
    {
        using var bench = new Bench(mode);
        DeviceRange range = bench.Map(bench.Region(1));
        bool movedBeforeReturn = false;
        var mover = new GatedMover();
        var host = new Thread(() =>
        {
            bench.Space.Unmap(range);
            movedBeforeReturn = mover.HasMoved;
        });

        // The mover goes on when the host is blocked inside unmap, or has come back from it too early.
        mover.During = () =>
        {
            host.Start();
            return SpinWait.SpinUntil(() => host.ThreadState is ThreadState.WaitSleepJoin or ThreadState.Stopped, TooLong);
        };
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address, 4096, DmaDirection.FromDevice, mover));
        Assert.True(host.Join(TooLong), "unmap did not return after the DMA had ended");
        Assert.True(movedBeforeReturn, "unmap returned while the device was still moving data");
        bench.AssertClean();
    }

    [Fact]
    public void An_unmap_from_inside_a_mover_of_the_same_device_is_refused_instead_of_waiting_for_itself()
    {
        using var bench = new Bench(IommuMode.Strict);
        DeviceRange range = bench.Map(bench.Region(1));
        Errno unmap = Errno.Ok;
        Errno remove = Errno.Ok;
        var mover = new GatedMover
        {
            During = () =>
            {
                unmap = Assert.Throws<DmaBufIoException>(() => bench.Space.Unmap(range)).Errno;
                remove = Assert.Throws<DmaBufIoException>(() => bench.Iommu.RemoveDevice(bench.Space)).Errno;
                return true;
            },
        };
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address, 8, DmaDirection.FromDevice, mover));
        Assert.Equal((Errno.EDEADLK, Errno.EDEADLK), (unmap, remove));
        bench.Space.Unmap(range);
    }

    [Fact]
    public void A_host_thread_maps_for_one_device_while_another_device_moves_data()
    {
        using var bench = new Bench(IommuMode.Strict);
        MemoryRegion region = bench.Region(1);
        DeviceRange range = bench.Map(region);
        (DmaAddressSpace other, _) = bench.Iommu.AddDevice("nvme1");
        var mover = new GatedMover
        {
            During = () =>
            {
                var host = new Thread(() => other.Unmap(other.Map(new MemoryRange(region, 0, 4096), DmaDirection.ToDevice, "other")));
                host.Start();
                return host.Join(TooLong);
            },
        };
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address, 8, DmaDirection.FromDevice, mover));
    }

    [Fact]
    public void F7_strict_lets_no_access_reach_memory_once_unmap_has_returned_whatever_the_device_does()
    {
        const int Rounds = 1000;
        const int Pages = 5;
        using var bench = new Bench(new ModelIommuOptions { ReuseDelay = 7, IotlbEntries = 8 });
        MemoryRegion region = bench.Region(Pages);
        ulong target = 0;
        long attempts = 0;
        bool stop = false;
        int unexpected = 0;
        var device = new Thread(() =>
        {
            byte[] data = new byte[(Pages - 1) * Bench.Page];
            Array.Fill(data, (byte)0xEE);
            while (!Volatile.Read(ref stop))
            {
                ulong address = Volatile.Read(ref target);
                if (address != 0 && bench.Port.Write(address + 100, data) is not (Errno.Ok or Errno.EFAULT))
                    unexpected++;
                Interlocked.Increment(ref attempts);
            }
        });
        device.Start();
        try
        {
            for (int round = 0; round < Rounds; round++)
            {
                region.Fill(0);
                DeviceRange range = bench.Map(region, generation: round);
                Publish(ref target, range.Address);
                AwaitAttempts(2);
                Assert.Equal(0xEE, region.Span(100, 1)[0]);
                bench.Space.Unmap(range);
                region.Fill(0x11);
                AwaitAttempts(2);
                int touched = region.Span(0, Pages * Bench.Page).IndexOfAnyExcept((byte)0x11);
                Assert.True(touched < 0, $"round {round}: byte {touched} was written after unmap had returned");
            }
        }
        finally
        {
            Volatile.Write(ref stop, true);
            Assert.True(device.Join(TooLong));
        }

        Assert.Equal(0, unexpected);
        Assert.True(bench.Iommu.StaleAccesses >= Rounds, $"{bench.Iommu.StaleAccesses} stale accesses in {Rounds} rounds");
        Assert.Equal(bench.Iommu.Faults, bench.Iommu.StaleAccesses);
        Assert.Equal((Rounds, Rounds), (bench.Iommu.Counters.Maps, bench.Iommu.Counters.Invalidations));

        void AwaitAttempts(long more)
        {
            long until = Volatile.Read(ref attempts) + more;
            Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref attempts) >= until, TooLong), "the device made no progress");
        }
    }

    [Theory]
    [InlineData(IommuMode.Lazy)]
    [InlineData(IommuMode.Passthrough)]
    public void A_device_that_goes_on_with_memory_that_is_being_freed_never_ends_the_process(IommuMode mode)
    {
        const int Rounds = 200;
        using var bench = new Bench(new ModelIommuOptions { Mode = mode, LazyFlushThreshold = 3, ReuseDelay = 0 });
        ulong target = 0;
        long attempts = 0;
        bool stop = false;
        int unexpected = 0;
        var device = new Thread(() =>
        {
            byte[] data = new byte[64 * Bench.Page];
            while (!Volatile.Read(ref stop))
            {
                ulong address = Volatile.Read(ref target);
                if (address != 0 && bench.Port.Write(address, data) is not (Errno.Ok or Errno.EFAULT))
                    unexpected++;
                Interlocked.Increment(ref attempts);
            }
        });
        device.Start();
        for (int round = 0; round < Rounds; round++)
        {
            using MemoryRegion region = MemoryRegion.Allocate("short-lived", 64 * Bench.Page);
            DeviceRange range = bench.Map(region);
            Publish(ref target, range.Address);
            long until = Volatile.Read(ref attempts) + 2;
            Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref attempts) >= until, TooLong), "the device made no progress");
            bench.Space.Unmap(range);
        }

        Volatile.Write(ref stop, true);
        Assert.True(device.Join(TooLong));
        Assert.Equal(0, unexpected);
        Assert.True(bench.Iommu.StaleAccesses > 0);
        Assert.Equal(0, bench.Iommu.LiveMappings);
    }

    /// <summary>
    /// Full fences on both sides (here, and where the device counts an attempt before it reads the address again) make the second
    /// attempt counted after this use the new address. Without them each side's load may pass its own store.
    /// </summary>
    private static void Publish(ref ulong target, ulong address) => Interlocked.Exchange(ref target, address);

    private sealed class GatedMover : IDmaMover
    {
        private volatile bool _moved;

        public bool HasMoved => _moved;

        public Func<bool> During { get; set; } = () => true;

        public Errno Move(Span<byte> piece, long position)
        {
            Errno answer = During() ? Errno.Ok : Errno.ETIMEDOUT;
            _moved = true;
            return answer;
        }
    }
}
