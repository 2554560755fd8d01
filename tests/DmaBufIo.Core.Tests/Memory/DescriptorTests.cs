using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Native;
using DmaBufIo.Tests.Rings;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Tests.Memory;

public sealed class DescriptorTests
{
    [Fact]
    public void A_descriptor_and_its_duplicates_find_the_same_buffer_and_take_a_reference_each()
    {
        using var exported = new ExportedBuffer(65536);
        using MemfdHandle duplicate = MemfdHandle.Duplicate(exported.Buffer.Descriptor!);
        using MemfdHandle again = MemfdHandle.Duplicate(duplicate);
        foreach (MemfdHandle descriptor in (MemfdHandle[])[exported.Buffer.Descriptor!, duplicate, again])
            Assert.Same(exported.Buffer, DmaBuf.FromDescriptor(descriptor));
        Assert.Equal(4, exported.Buffer.References);
        for (int i = 0; i < 3; i++)
            exported.Buffer.Put();
    }

    [Fact]
    public void R1_a_closed_descriptor_and_one_that_was_never_open_are_EBADF()
    {
        MemfdHandle closed = MemfdHandle.Create("closed", 4096);
        closed.Dispose();
        Assert.Equal(Errno.EBADF, StageVerbs.Refusal(() => DmaBuf.FromDescriptor(closed)));
        using var never = new SafeFileHandle(1_000_000, ownsHandle: false);
        Assert.Equal(Errno.EBADF, StageVerbs.Refusal(() => DmaBuf.FromDescriptor(never)));
        using var invalid = new SafeFileHandle(-1, ownsHandle: false);
        Assert.Equal(Errno.EBADF, StageVerbs.Refusal(() => DmaBuf.FromDescriptor(invalid)));
    }

    [Fact]
    public void R1_another_kind_of_file_and_a_memory_file_that_was_not_exported_are_EINVAL()
    {
        using SafeFileHandle file = System.IO.File.OpenHandle("/dev/null");
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => DmaBuf.FromDescriptor(file)));
        using MemfdHandle memfd = MemfdHandle.Create("plain", 4096);
        memfd.SealAgainstShrinking();
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => DmaBuf.FromDescriptor(memfd)));
    }

    [Fact]
    public void A_buffer_that_was_freed_is_not_found_though_a_duplicate_of_its_descriptor_is_open()
    {
        var exported = new ExportedBuffer(4096);
        using MemfdHandle duplicate = MemfdHandle.Duplicate(exported.Buffer.Descriptor!);
        exported.Dispose();
        Assert.True(exported.Released);
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => DmaBuf.FromDescriptor(duplicate)));
    }

    [Fact]
    public void One_memory_file_stands_for_one_buffer()
    {
        using var exported = new ExportedBuffer(4096);
        MemfdHandle duplicate = MemfdHandle.Duplicate(exported.Buffer.Descriptor!);
        Assert.Equal(Errno.EEXIST, StageVerbs.Refusal(() => _ = new DmaBuf("second", 4096, exported, duplicate)));
        Assert.True(duplicate.IsClosed); // it was the buffer's to own
        DmaBuf found = DmaBuf.FromDescriptor(exported.Buffer.Descriptor!);
        Assert.Same(exported.Buffer, found);
        found.Put();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-4096)]
    [InlineData(100)]
    public void A_buffer_is_whole_pages(long size)
    {
        using var exported = new ExportedBuffer(4096);
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => _ = new DmaBuf("odd", size, exported)));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-4096)]
    [InlineData(100)]
    public void A_buffer_that_is_refused_for_its_size_closes_the_descriptor_it_was_given(long size)
    {
        using var exported = new ExportedBuffer(4096);
        MemfdHandle duplicate = MemfdHandle.Duplicate(exported.Buffer.Descriptor!);
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => _ = new DmaBuf("odd", size, exported, duplicate)));
        Assert.True(duplicate.IsClosed); // it was the buffer's to own
    }

    [Fact]
    public void A_reference_that_is_dropped_twice_or_taken_after_the_end_is_noticed()
    {
        var exported = new ExportedBuffer(4096);
        exported.Buffer.Put();
        Assert.Throws<InvalidOperationException>(exported.Buffer.Put);
        Assert.Equal(Errno.EBADF, StageVerbs.Refusal(exported.Buffer.Get));
    }

    [Fact]
    public void A_closed_descriptor_cannot_be_duplicated()
    {
        using var never = new SafeFileHandle(1_000_000, ownsHandle: false);
        Assert.Equal(Errno.EBADF, StageVerbs.Refusal(() => MemfdHandle.Duplicate(never)));
    }
}
