using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Native;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Exporters.Udmabuf.Tests;

/// <summary>The rules of the kernel's driver (drivers/dma-buf/udmabuf.c), kept by the memory file that stands in for it.</summary>
public sealed class UdmabufTests
{
    private static readonly int s_page = MemoryRegion.PageSize;

    [Fact]
    public void A_buffer_is_found_by_its_descriptor_and_by_a_duplicate_of_it()
    {
        DmaBuf buffer = Create(s_page * 4);
        using MemfdHandle duplicate = MemfdHandle.Duplicate(buffer.Descriptor!);
        DmaBuf found = DmaBuf.FromDescriptor(duplicate);
        Assert.Same(buffer, found);
        found.Put();
        buffer.Put();
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => DmaBuf.FromDescriptor(duplicate)).Errno);
    }

    [Fact]
    public void A_buffer_says_what_it_is_made_of_and_that_it_never_moves()
    {
        DmaBuf buffer = Create(s_page * 4);
        BufferBacking backing = buffer.Describe();
        Assert.False(backing.CanMove);
        Assert.Equal(s_page * 4, backing.Ranges.Sum(static r => r.Length));
        buffer.Put();
    }

    [Fact]
    public void An_unsealed_memory_file_is_refused_and_left_alone()
    {
        using var memfd = MemfdHandle.Create("unsealed", s_page);
        DmaBufIoException e = Assert.Throws<DmaBufIoException>(() => Files().Export("b", [new MemoryFileRange(memfd, 0, s_page)]));
        Assert.Equal(Errno.EINVAL, e.Errno);
        Assert.Contains("sealed", e.Message, StringComparison.Ordinal);
        Assert.Contains("F_SEAL_SHRINK", e.Remedy, StringComparison.Ordinal);
        Assert.Equal(s_page, memfd.Length);
    }

    [Theory]
    [InlineData(1, 4096)]
    [InlineData(0, 100)]
    [InlineData(0, 0)]
    [InlineData(-4096, 4096)]
    [InlineData(4096 * 4, 4096)]
    [InlineData(4096 * 3, 4096 * 2)]
    [InlineData(long.MaxValue - 4095, 4096)]
    public void A_range_that_is_unaligned_or_leaves_its_file_is_refused(long offset, long length)
    {
        using MemfdHandle memfd = Sealed(4096 * 4);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => Files().Export("b", [new MemoryFileRange(memfd, offset, length)])).Errno);
    }

    [Fact]
    public void A_buffer_above_the_limit_is_refused_and_the_limit_can_be_raised()
    {
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => Create((64L << 20) + s_page)).Errno);
        DmaBuf buffer = Create((64L << 20) + s_page, "udmabuf:limit=1G,kernel=off");
        Assert.Equal((64L << 20) + s_page, buffer.Size);
        buffer.Put();
    }

    [Fact]
    public void Too_many_ranges_and_none_at_all_are_refused()
    {
        using MemfdHandle memfd = Sealed(s_page);
        Assert.Throws<DmaBufIoException>(() => Files().Export("b", []));
        Assert.Throws<DmaBufIoException>(() => Files().Export("b", [.. Enumerable.Repeat(new MemoryFileRange(memfd, 0, s_page), 1025)]));
    }

    [Fact]
    public void Ranges_of_several_files_appear_to_a_device_in_the_order_given()
    {
        using MemfdHandle one = Sealed(s_page * 2);
        using MemfdHandle two = Sealed(s_page * 2);
        DmaBuf buffer = Files().Export("b", [new MemoryFileRange(two, s_page, s_page), new MemoryFileRange(one, 0, s_page * 2)]);
        Assert.Equal(s_page * 3, buffer.Size);
        using var iommu = new ModelIommu(new ModelIommuOptions());
        (DmaAddressSpace space, DmaPort port) = iommu.AddDevice("dev");
        var device = new DmaDevice("dev", space);
        DmaAttachment attachment = buffer.Attach(device, target: null);
        using (ReservationGuard guard = buffer.Reservation.Lock(null, TestContext.Current.CancellationToken))
        {
            SgTable table = attachment.Map(DmaDirection.Bidirectional, guard.Held);
            byte value = 1;
            foreach (DeviceRange range in table.Ranges)
                Assert.Equal(Errno.Ok, port.Write(range.Address, [value++]));
            attachment.Unmap(table, guard.Held);
        }

        using (var seenTwo = MemoryRegion.FromFile("two", MemfdHandle.Duplicate(two), s_page * 2))
            Assert.Equal(1, seenTwo.Span(s_page, 1)[0]);
        using (var seenOne = MemoryRegion.FromFile("one", MemfdHandle.Duplicate(one), s_page * 2))
            Assert.Equal(2, seenOne.Span(0, 1)[0]);
        buffer.Detach(attachment, null);
        buffer.Put();
        Assert.Equal(0, iommu.LiveMappings);
    }

    [Fact]
    public void A_misspelt_option_is_refused() => Assert.Throws<DmaBufIoException>(() => Create(s_page, "udmabuf:limt=1G"));

    private static MemfdHandle Sealed(long length)
    {
        var memfd = MemfdHandle.Create("sealed", length);
        memfd.SealAgainstShrinking();
        return memfd;
    }

    private static DmaBuf Create(long size, string expression = "udmabuf:kernel=off")
    {
        var options = new Dictionary<string, DeviceOption>();
        foreach (string part in expression.Contains(':', StringComparison.Ordinal) ? expression.Split(':')[1].Split(',') : [])
            options[part.Split('=')[0]] = new DeviceOption(part.Split('=')[1], 0, 0);
        return Factory().Create(new DeviceExpression("udmabuf", null, options, [], expression, 0), "b", size);
    }

    private static IMemoryFileExporter Files() => (IMemoryFileExporter)Factory();

    private static IExporterFactory Factory()
    {
        var services = new ServiceCollection();
        new UdmabufPlugin().Register(services, new ConfigurationBuilder().Build());
        return services.BuildServiceProvider().GetRequiredService<IExporterFactory>();
    }
}
