using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.Loader;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Hosting.Loading;

namespace DmaBufIo.Tests;

public sealed class UnloadTests : LivingPluginTests
{
    [Fact]
    public void An_unloaded_plugin_is_collected_although_its_closed_devices_and_buffers_are_kept()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Yard.Start();
        (OpenedDevice device, ExportedBuffer buffer) = UseAndClose(host);

        UnloadedPlugin unloaded = host.Plugins.Unload("good");

        Assert.True(unloaded.IsUnloadable);
        AssertCollected(unloaded);
        Assert.Empty(host.Plugins.All);
        Assert.Empty(host.Plugins.DeviceWords);
        Assert.Equal("scope disposed", Yard.Journal.Last());
        Assert.Empty(device.BlockDevices);
        Assert.Throws<ObjectDisposedException>(() => buffer.Buffer);
        Assert.Contains(Yard.Logs.Lines, static l => l.Event.Id == 1002);
    }

    [Fact]
    public void What_an_application_keeps_of_a_plugin_keeps_its_memory()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Yard.Start();
        object kept = OpenAndKeep(host);

        UnloadedPlugin unloaded = host.Plugins.Unload("good");
        Collect();

        Assert.False(unloaded.IsCollected);
        GC.KeepAlive(kept);
    }

    [Theory]
    [InlineData("ConstructorThrows")]
    [InlineData("RegisterThrows")]
    [InlineData("KeyedServices")]
    [InlineData("FactoryThrows")]
    [InlineData("WordIsTwice")]
    public void A_refused_plugin_leaves_nothing_loaded(string fault)
    {
        string folder = Yard.AddRenamed(PluginYard.Faulty, fault);
        var context = new WeakReference(null);
        int disposed = 0;
        using DmaBufIoHost host = Yard.Start(o =>
        {
            o.LoadPluginFolder = false;
            o.AssemblyLoader = config => new Watched(PluginLoader.Create(config), context, () => disposed++);
        });
        LoadRefused(host, folder);
        Assert.Equal(1, disposed);

        for (int i = 0; i < 20 && context.IsAlive; i++)
            Collect();

        Assert.False(context.IsAlive, "The load context of the refused plugin was not collected.");
        Assert.Equal(PluginState.Refused, Assert.Single(host.Plugins.All).State);
    }

    [Fact]
    public void A_file_replaced_by_rename_is_loaded_again_in_its_new_version()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Yard.Start();
        UseAndClose(host);

        PluginYard.Rewrite(Yard.GoodAssembly, Yard.GoodAssembly, static a => a.Name.Version = new Version(7, 8, 9, 10));
        Assert.Equal(new Version(0, 1, 0, 0), Assert.Single(host.Plugins.All).Version);
        PluginStatus status = host.Plugins.Reload("good");

        Assert.Equal(PluginState.Loaded, status.State);
        Assert.Equal(new Version(7, 8, 9, 10), status.Version);
        Assert.Equal(status, Assert.Single(host.Plugins.All));
        UseAndClose(host);
    }

    [Fact]
    public void A_plugin_is_unloaded_and_loaded_many_times_without_growing()
    {
        string folder = Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Yard.Start();
        for (int i = 0; i < 10; i++)
        {
            UseAndClose(host);
            UnloadedPlugin unloaded = host.Plugins.Unload(PluginYard.Good);
            AssertCollected(unloaded);
            Assert.Equal(PluginState.Loaded, host.Plugins.Load(folder).State);
        }
    }

    [Fact]
    public void Unloading_is_refused_while_devices_or_buffers_are_alive_and_counts_them()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Yard.Start();
        OpenedDevice pair = host.Open("pair(fake:a,fake:b)");
        OpenedDevice single = host.Open("fake:c");
        ExportedBuffer buffer = host.CreateBuffer("plain", "b0", 4096);

        AssertBusy(host, "4 devices and 1 buffer made by it are alive");
        pair.Dispose();
        AssertBusy(host, "1 device and 1 buffer made by it are alive");
        single.Dispose();
        AssertBusy(host, "0 devices and 1 buffer made by it are alive");
        buffer.Dispose();

        host.Plugins.Unload("good");
    }

    [Fact]
    public void A_buffer_counts_until_its_last_reference_is_dropped()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Yard.Start();
        DmaBuf kept;
        using (ExportedBuffer buffer = host.CreateBuffer("plain", "b0", 4096))
        {
            kept = buffer.Buffer;
            kept.Get();
        }

        AssertBusy(host, "0 devices and 1 buffer made by it are alive");
        Assert.DoesNotContain("free b0", Yard.Journal);
        kept.Put();

        host.Plugins.Unload("good");
        Assert.Contains("free b0", Yard.Journal);
    }

    [Fact]
    public void A_device_that_could_not_be_opened_does_not_count()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Yard.Start();
        foreach (string broken in new[] { "fake:a,fail=create", "fake:a,fail=probe", "fake:a,vendor=1", "pair:x,fail(fake:a,fake:b)" })
            Assert.ThrowsAny<Exception>(() => host.Open(broken));

        host.Plugins.Unload("good");
    }

    [Fact]
    public void Only_a_plugin_that_is_loaded_can_be_unloaded()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Yard.Start();

        var error = Assert.Throws<DmaBufIoException>(() => host.Plugins.Unload("godo"));

        Assert.Equal(Errno.ENOENT, error.Errno);
        Assert.Contains("good", error.Remedy);
    }

    [Fact]
    public void A_plugin_whose_disposal_throws_is_gone_all_the_same()
    {
        Yard.AddRenamed(PluginYard.Faulty, "DisposeThrows");
        using DmaBufIoHost host = Yard.Start();
        Assert.Equal(["disposable"], host.Plugins.DeviceWords);
        List<PluginChangedEventArgs> changes = DrainTests.Changes(host);

        UnloadedPlugin unloaded = host.Plugins.Unload("DisposeThrows");

        Assert.Empty(host.Plugins.All);
        Assert.Equal([PluginChange.Unloaded], changes.Select(static c => c.Change));
        Assert.Contains(Yard.Logs.Lines, static l => l.Event.Id == 1010 && l.Text.Contains("the disposal is broken", StringComparison.Ordinal));
        AssertCollected(unloaded);
    }

    [Fact]
    public void A_plugin_whose_disposal_throws_is_reloaded_all_the_same()
    {
        Yard.AddRenamed(PluginYard.Faulty, "DisposeFails");
        using DmaBufIoHost host = Yard.Start();
        List<PluginChangedEventArgs> changes = DrainTests.Changes(host);

        Assert.Equal(PluginState.Loaded, host.Plugins.Reload("DisposeFails").State);

        Assert.Equal(PluginState.Loaded, Assert.Single(host.Plugins.All).State);
        Assert.Equal([PluginChange.Reloaded], changes.Select(static c => c.Change));
        Assert.Contains(Yard.Logs.Lines, static l => l.Event.Id == 1010 && l.Text.Contains("the hardware does not answer at the end", StringComparison.Ordinal));
        host.Plugins.Unload("DisposeFails"); // so that the host ends without it
    }

    private static void AssertBusy(DmaBufIoHost host, string problem)
    {
        var error = Assert.Throws<DmaBufIoException>(() => host.Plugins.Unload("good"));
        Assert.Equal(Errno.EBUSY, error.Errno);
        Assert.Equal(problem, error.Problem);
        Assert.Equal("good", Assert.Single(host.Plugins.All).Name);
    }

    // In frames of their own: a local of the test's frame would keep the plugin's objects.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static (OpenedDevice Device, ExportedBuffer Buffer) UseAndClose(DmaBufIoHost host)
    {
        OpenedDevice device = host.Open("pair(fake:a,fake:b)");
        ExportedBuffer buffer = host.CreateBuffer("plain", "b0", 4096);
        buffer.Move(TestContext.Current.CancellationToken);
        device.Root.Members[0].Reset();
        buffer.Dispose();
        device.Dispose();
        return (device, buffer);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static object OpenAndKeep(DmaBufIoHost host)
    {
        using OpenedDevice device = host.Open("fake:a");
        return device.BlockDevice;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void LoadRefused(DmaBufIoHost host, string folder) => Assert.Equal(PluginState.Refused, host.Plugins.Load(folder).State);

    private static void Collect()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
    }

    private sealed class Watched(IPluginAssemblyLoader loader, WeakReference context, Action disposed) : IPluginAssemblyLoader
    {
        public bool IsUnloadable => loader.IsUnloadable;

        public Assembly LoadDefaultAssembly()
        {
            Assembly assembly = loader.LoadDefaultAssembly();
            context.Target = AssemblyLoadContext.GetLoadContext(assembly);
            return assembly;
        }

        public void Dispose()
        {
            loader.Dispose();
            disposed();
        }
    }
}
