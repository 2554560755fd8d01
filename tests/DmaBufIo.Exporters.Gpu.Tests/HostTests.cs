using System.Runtime.CompilerServices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Plugins;

namespace DmaBufIo.Exporters.Gpu.Tests;

/// <summary>The GPU as a plugin from a folder.</summary>
public sealed class HostTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("dmabufio-gpu-").FullName;
    private readonly ModelIommu _iommu = new();

    public void Dispose()
    {
        _iommu.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public void The_plugin_is_collected_when_it_is_unloaded_after_use_its_engines_threads_and_all()
    {
        string plugin = Directory.CreateDirectory(Path.Combine(_folder, "DmaBufIo.Exporters.Gpu")).FullName;
        File.Copy(Path.Combine(AppContext.BaseDirectory, "DmaBufIo.Exporters.Gpu.dll"), Path.Combine(plugin, "DmaBufIo.Exporters.Gpu.dll"));
        using DmaBufIoHost host = DmaBufIoHost.Create(new DmaBufIoOptions { PluginFolder = _folder }.UseFabric(_iommu));
        Assert.True(host.Plugins.All.Any(static p => p is { Name: "gpu", State: PluginState.Loaded }), string.Join('\n', host.Plugins.All.Select(static p => p.Reason)));
        Use(host);
        UnloadedPlugin unloaded = host.Plugins.Unload("gpu");
        GpuRig.Until(() =>
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            return unloaded.IsCollected;
        });
        Assert.DoesNotContain("gpu", host.Plugins.ExporterWords);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Use(DmaBufIoHost host)
    {
        using ExportedBuffer exported = host.CreateBuffer("gpu:vram=8M", "b", 1 << 20);
        Assert.True(exported.CanMove);
        exported.Compute!.Fill(exported.Buffer, 0, 1 << 20, 5).Fence.Wait(GpuRig.Token);
        exported.Move(GpuRig.Token);
        using (IMemoryPressure pressure = exported.Presser!.Press(exported.Buffer))
            GpuRig.Until(() => pressure.Evictions > 300);
        IComputeJob hash = exported.Compute.Hash(exported.Buffer, 0, 1 << 20);
        hash.Fence.Wait(GpuRig.Token);
        byte[] expected = new byte[1 << 20];
        expected.AsSpan().Fill(5);
        Assert.Equal(System.Security.Cryptography.SHA256.HashData(expected), hash.Result.ToArray());
        exported.Buffer.Reservation.Wait(FenceUsage.Bookkeep, GpuRig.Token);
        GpuRig.Until(() => exported.Buffer.References == 1);
    }
}
