using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using Microsoft.Extensions.Options;

namespace FileToDisk.Tests;

public sealed class CopyTests : IDisposable
{
    private readonly ModelIommu _iommu = new();
    private readonly TestDisks _disks = new();
    private readonly string _file = Path.GetTempFileName();
    private readonly DmaBufIoHost _host;

    public CopyTests()
    {
        _disks.Fabric = _iommu;
        var options = new DmaBufIoOptions { LoadPluginFolder = false };
        _host = DmaBufIoHost.Create(options.UseFabric(_iommu).AddBuiltIn<ModelsPlugin>().AddBuiltIn(() => _disks));
    }

    public void Dispose()
    {
        _host.Dispose();
        _iommu.Dispose();
        File.Delete(_file);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(300_000)]
    public async Task The_file_is_on_the_device_and_nothing_stays_open(int size)
    {
        byte[] bytes = Bytes(size);

        Assert.Equal(size, await Job("testdisk:a").RunAsync(TestContext.Current.CancellationToken));

        Assert.True(_disks.Disk!.Store[..size].SequenceEqual(bytes));
        Assert.Equal((0, 0), (_iommu.Faults, _iommu.StaleAccesses));
        Assert.Empty(_host.Devices);
        Assert.Empty(_host.Buffers);
    }

    [Fact]
    public async Task A_device_that_fails_is_an_error_and_nothing_stays_open()
    {
        Bytes(1000);
        _disks.Prepare = static disk => disk.FailWith = Errno.EIO;

        DmaBufIoException e = await Assert.ThrowsAsync<DmaBufIoException>(() => Job("testdisk:a").RunAsync(TestContext.Current.CancellationToken));

        Assert.Equal(Errno.EIO, e.Errno);
        Assert.Empty(_host.Devices);
        Assert.Empty(_host.Buffers);
    }

    [Fact]
    public async Task A_file_that_is_larger_than_the_device_is_an_error()
    {
        Bytes((1 << 20) + 1);

        DmaBufIoException e = await Assert.ThrowsAsync<DmaBufIoException>(() => Job("testdisk:a").RunAsync(TestContext.Current.CancellationToken));

        Assert.Equal(Errno.ENOSPC, e.Errno);
    }

    [Fact]
    public async Task A_device_that_no_plugin_knows_is_named()
    {
        DmaBufIoException e = await Assert.ThrowsAsync<DmaBufIoException>(() => Job("unknown:1M").RunAsync(TestContext.Current.CancellationToken));

        Assert.Equal(Errno.EINVAL, e.Errno);
        Assert.Contains("unknown:1M", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_device_that_stands_on_the_file_itself_is_refused_also_through_a_link(bool throughLink)
    {
        byte[] bytes = Bytes(1000);
        string path = throughLink ? _file + ".link" : _file;
        if (throughLink)
            File.CreateSymbolicLink(path, _file);
        try
        {
            DmaBufIoException e = await Assert.ThrowsAsync<DmaBufIoException>(() => Job($"testdisk:{path}").RunAsync(TestContext.Current.CancellationToken));

            Assert.Equal(Errno.EINVAL, e.Errno);
            Assert.Contains($"'{path}' is the file that is copied", e.Message, StringComparison.Ordinal);
            Assert.Null(_disks.Disk);
            Assert.Equal(bytes, File.ReadAllBytes(_file));
        }
        finally
        {
            if (throughLink)
                File.Delete(path);
        }
    }

    [Fact]
    public async Task What_lies_behind_the_last_byte_on_the_device_is_zero()
    {
        Bytes((256 << 10) + 1);

        await Job("testdisk:a").RunAsync(TestContext.Current.CancellationToken);

        Assert.False(_disks.Disk!.Store[((256 << 10) + 1)..].ContainsAnyExcept((byte)0));
    }

    private CopyJob Job(string device) => new(_host, Options.Create(new CopyOptions { File = _file, Device = device }));

    private byte[] Bytes(int size)
    {
        byte[] bytes = new byte[size];
        new Random(size).NextBytes(bytes);
        File.WriteAllBytes(_file, bytes);
        return bytes;
    }
}
