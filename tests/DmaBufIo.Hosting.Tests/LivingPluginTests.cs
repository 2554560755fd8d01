using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;

namespace DmaBufIo.Tests;

/// <summary>What tests of living plugins share: a folder of plugins, the models, a modelled IOMMU.</summary>
public abstract class LivingPluginTests : IDisposable
{
    private protected PluginYard Yard { get; } = new();

    private protected ModelIommu Iommu { get; } = new();

    public void Dispose()
    {
        Yard.Dispose();
        Iommu.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>A host over the folder, with the models built in.</summary>
    private protected DmaBufIoHost StartWithModels(Action<DmaBufIoOptions>? configure = null) => Yard.Start(o =>
    {
        o.UseFabric(Iommu).AddBuiltIn<ModelsPlugin>();
        configure?.Invoke(o);
    });

    /// <summary>The plugins that came from the folder.</summary>
    private protected static IEnumerable<PluginStatus> Own(DmaBufIoHost host) => host.Plugins.All.Where(static p => !p.IsBuiltIn);

    /// <summary>What the test itself holds of the plugin's devices is of the framework's types: the plugin goes all the same.</summary>
    private protected static void AssertCollected(UnloadedPlugin unloaded)
    {
        for (int i = 0; i < 20 && !unloaded.IsCollected; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Assert.True(unloaded.IsCollected, "The load context of the plugin was not collected: something still refers to an object or a type of it.");
    }
}
