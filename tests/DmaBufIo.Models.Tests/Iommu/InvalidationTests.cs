using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Models.Tests.Iommu;

public class InvalidationTests
{
    private static TimeSpan TooLong => TimeSpan.FromSeconds(30);

    [Fact]
    public void F7_strict_serves_no_host_after_its_unmap_returned_however_many_map_while_the_device_never_rests()
    {
        const int Hosts = 3;
        const int Rounds = 300;
        const int Pages = 3;

        // Addresses rest longer than the test: one that meets another host's mapping would be served rightly.
        using var bench = new Bench(new ModelIommuOptions { ReuseDelay = Hosts * Rounds * 2, IotlbEntries = 16 });
        MemoryRegion[] regions = [.. Enumerable.Range(0, Hosts).Select(i => bench.Region(Pages, $"memory of host {i}"))];
        long[] targets = new long[Hosts];
        long attempts = 0;
        bool stop = false;
        string? failure = null;
        var device = new Thread(() =>
        {
            byte[] data = new byte[Pages * Bench.Page];
            Array.Fill(data, (byte)0xEE);
            while (!Volatile.Read(ref stop))
            {
                foreach (ref long target in targets.AsSpan())
                {
                    ulong address = (ulong)Volatile.Read(ref target);
                    if (address != 0 && bench.Port.Write(address, data) is not (Errno.Ok or Errno.EFAULT))
                        failure ??= "the port answered neither Ok nor EFAULT";
                }

                Interlocked.Increment(ref attempts);
            }
        });
        Thread[] hosts = [.. Enumerable.Range(0, Hosts).Select(number => new Thread(() => Work(number)))];
        device.Start();
        foreach (Thread host in hosts)
            host.Start();
        Assert.All(hosts, host => Assert.True(host.Join(2 * TooLong), "a host is stuck"));
        Volatile.Write(ref stop, true);
        Assert.True(device.Join(TooLong));
        Assert.Null(failure);

        // Each round maps twice: a whole range, and one page each.
        const long Maps = Hosts * Rounds * (Pages + 1);
        IommuCounters counters = bench.Iommu.Counters;
        Assert.Equal((Maps, Maps), (counters.Maps, counters.Unmaps));
        Assert.Equal((Maps, Maps), (counters.Invalidations, counters.AcknowledgedInvalidations));
        Assert.Equal(Hosts * Rounds * 2, counters.InvalidationWaits);
        Assert.Equal((bench.Iommu.Faults, 0), (bench.Iommu.StaleAccesses, bench.Iommu.LiveMappings));
        Assert.True(bench.Iommu.StaleAccesses > 0, "the device never tried an address after its unmap");

        void Work(int number)
        {
            MemoryRegion region = regions[number];
            for (int round = 0; round < Rounds && failure is null; round++)
            {
                region.Fill(0);
                DeviceRange whole = bench.Map(region, purpose: $"host {number}", generation: round);
                Interlocked.Exchange(ref targets[number], (long)whole.Address);
                Await(2);
                if (region.Span(0, 1)[0] != 0xEE)
                    failure ??= $"host {number}, round {round}: the device did not write while it could";
                bench.Space.Unmap(whole);
                CheckQuiet(number, round, region);

                DeviceRange[] pages = [.. Enumerable.Range(0, Pages).Select(i => bench.Map(region, i, 1))];
                Interlocked.Exchange(ref targets[number], (long)pages[0].Address);
                bench.Space.Unmap(pages);
                CheckQuiet(number, round, region);
            }
        }

        void CheckQuiet(int number, int round, MemoryRegion region)
        {
            region.Fill(0x11);
            Await(2);
            int touched = region.Span(0, Pages * Bench.Page).IndexOfAnyExcept((byte)0x11);
            if (touched >= 0)
                failure ??= $"host {number}, round {round}: byte {touched} was written after unmap had returned";
        }

        void Await(long more)
        {
            long until = Volatile.Read(ref attempts) + more;
            if (!SpinWait.SpinUntil(() => Volatile.Read(ref attempts) >= until, TooLong))
                failure ??= "the device made no progress";
        }
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public void T8_the_thread_that_works_an_inline_device_may_unmap_also_where_it_may_not_sleep(bool thread, bool maySleep)
    {
        const int Requests = 20_000;
        using var bench = new Bench(new ModelIommuOptions { InvalidationThread = thread });
        MemoryRegion region = bench.Region(4);
        using var context = new IoContext("ring");
        if (!maySleep)
            context.Enter();
        for (int i = 0; i < Requests; i++)
        {
            DeviceRange range = bench.Map(region, i % 4, 1);
            Assert.Equal(Errno.Ok, bench.Read(range.Address));
            bench.Space.Unmap(range);
        }

        if (!maySleep)
            context.Leave();
        Assert.Equal((Requests, Requests), (bench.Iommu.Counters.AcknowledgedInvalidations, bench.Iommu.Counters.InvalidationWaits));
        bench.AssertClean();
    }

    [Fact]
    public void A_mover_of_one_device_may_unmap_for_another_one()
    {
        using var bench = new Bench(IommuMode.Strict);
        DeviceRange range = bench.Map(bench.Region(1));
        (DmaAddressSpace other, DmaPort otherPort) = bench.Iommu.AddDevice("nvme1");
        DeviceRange theirs = other.Map(range.Memory, DmaDirection.ToDevice, "other");
        Assert.Equal(Errno.Ok, otherPort.Read(theirs.Address, new byte[8]));
        var mover = new Mover(() => other.Unmap(theirs));
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address, 8, DmaDirection.ToDevice, mover));
        Assert.Equal(1, bench.Iommu.CountersOf("nvme1").AcknowledgedInvalidations);
        Assert.Equal(Errno.EFAULT, otherPort.Read(theirs.Address, new byte[8]));
    }

    [Fact]
    public void A_flush_from_inside_a_mover_is_executed_by_the_mover_and_does_not_wait_for_itself()
    {
        using var bench = new Bench(IommuMode.Lazy);
        MemoryRegion region = bench.Region(2);
        DeviceRange ended = bench.Map(region, 0, 1);
        DeviceRange range = bench.Map(region, 1, 1);
        Assert.Equal(Errno.Ok, bench.Read(ended.Address));
        bench.Space.Unmap(ended);
        Assert.Equal(Errno.Ok, bench.Port.Transfer(range.Address, 8, DmaDirection.ToDevice, new Mover(bench.Iommu.Flush)));
        Assert.Equal((1, 1), (bench.Iommu.Counters.Flushes, bench.Iommu.Counters.InvalidationWaits));
        Assert.Equal(Errno.EFAULT, bench.Read(ended.Address));
    }

    [Theory]
    [InlineData(IommuMode.Strict)]
    [InlineData(IommuMode.Lazy)]
    public void T11_removing_a_device_acknowledges_what_its_hosts_wait_for(IommuMode mode)
    {
        const int Rounds = 100;
        const int Hosts = 4;
        const int Ranges = 40;
        for (int round = 0; round < Rounds; round++)
        {
            var bench = new Bench(new ModelIommuOptions { Mode = mode, LazyFlushThreshold = 1 });
            MemoryRegion region = bench.Region(Ranges);
            DeviceRange[][] ranges = [.. Enumerable.Range(0, Hosts).Select(_ => MapPages(bench, region))];
            int unmapped = 0;
            int unexpected = 0;
            Thread[] hosts = [.. ranges.Select(mine => new Thread(() =>
            {
                foreach (DeviceRange range in mine)
                {
                    try
                    {
                        bench.Space.Unmap(range);
                        Interlocked.Increment(ref unmapped);
                    }
                    catch (DmaBufIoException error)
                    {
                        if (error.Errno != Errno.EINVAL)
                            Interlocked.Increment(ref unexpected);
                    }
                }
            }))];
            foreach (Thread host in hosts)
                host.Start();

            // Somewhere in the middle, another place in each round.
            int start = round * Ranges * Hosts / Rounds;
            SpinWait.SpinUntil(() => Volatile.Read(ref unmapped) >= start, TooLong);
            if (round % 2 == 0)
                bench.Iommu.RemoveDevice(bench.Space);
            else
                bench.Iommu.Dispose();
            Assert.All(hosts, host => Assert.True(host.Join(TooLong), $"round {round}: a host waits for a device that is gone"));

            IommuCounters counters = bench.Iommu.Counters;
            Assert.Equal((0, unmapped), (unexpected, counters.Unmaps));
            Assert.Equal(Hosts * Ranges, unmapped + bench.Iommu.LeakedMappings);
            Assert.Equal(mode == IommuMode.Strict ? unmapped : 0, counters.Invalidations);
            Assert.Equal(counters.Invalidations, counters.AcknowledgedInvalidations);
            bench.Dispose();
        }
    }

    [Theory]
    [InlineData(IommuMode.Strict, true, 1)]
    [InlineData(IommuMode.Lazy, true, 1)]
    [InlineData(IommuMode.Strict, false, 0)]
    [InlineData(IommuMode.Passthrough, true, 0)]
    public void The_thread_that_acknowledges_begins_with_the_first_invalidation_and_ends_with_the_device(
        IommuMode mode, bool thread, int expected)
    {
        // The kernel keeps 15 characters of a thread's name.
        string device = Guid.NewGuid().ToString("N")[..9];
        using var iommu = new ModelIommu(new ModelIommuOptions { Mode = mode, InvalidationThread = thread, LazyFlushThreshold = 0 });
        using MemoryRegion region = MemoryRegion.Allocate("memory", Bench.Page);
        foreach (bool dispose in new[] { false, true })
        {
            (DmaAddressSpace space, _) = iommu.AddDevice(device);
            DeviceRange range = space.Map(new MemoryRange(region, 0, Bench.Page), DmaDirection.ToDevice, "buffer");
            Assert.Equal(0, Threads());
            space.Unmap(range);
            Assert.Equal(expected, Threads());
            space.Unmap(space.Map(new MemoryRange(region, 0, Bench.Page), DmaDirection.ToDevice, "buffer"));
            Assert.Equal(expected, Threads());
            if (dispose)
                iommu.Dispose();
            else
                iommu.RemoveDevice(space);

            // It has done its last work; the kernel may still be taking it down.
            Assert.True(SpinWait.SpinUntil(() => Threads() == 0, TooLong), "the thread outlives its device");
        }

        int Threads() => Directory.GetDirectories("/proc/self/task").Count(task => NameOf(task) == $"iommu {device}");
    }

    [Fact]
    public void Lazy_flushes_an_idle_device_when_the_option_asks_for_it()
    {
        using var bench = new Bench(new ModelIommuOptions { Mode = IommuMode.Lazy, LazyIdleFlush = TimeSpan.FromMilliseconds(5) });
        MemoryRegion region = bench.Region(2);
        for (int round = 1; round <= 3; round++)
        {
            DeviceRange[] ranges = [bench.Map(region, 0, 1), bench.Map(region, 1, 1)];
            foreach (DeviceRange range in ranges)
                bench.Read(range.Address);
            bench.Space.Unmap(ranges);
            Assert.True(SpinWait.SpinUntil(() => bench.Iommu.Counters.Flushes == round, TooLong), $"round {round}: no flush");
            Assert.All(ranges, range => Assert.Equal(Errno.EFAULT, bench.Read(range.Address)));
        }

        Assert.Equal(0, bench.Iommu.LiveMappings);
    }

    private static DeviceRange[] MapPages(Bench bench, MemoryRegion region) =>
        [.. Enumerable.Range(0, (int)(region.Length / Bench.Page)).Select(i => bench.Map(region, i, 1))];

    private static string NameOf(string task)
    {
        try
        {
            return File.ReadAllText(Path.Combine(task, "comm")).Trim();
        }
        catch (IOException)
        {
            // A thread that ended while the list was read.
            return "";
        }
    }

    private sealed class Mover(Action during) : IDmaMover
    {
        public Errno Move(Span<byte> piece, long position)
        {
            during();
            return Errno.Ok;
        }
    }
}
