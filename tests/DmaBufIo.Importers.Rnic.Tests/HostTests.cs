using System.Runtime.CompilerServices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Importers.NvmePci;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Pci.Model;
using DmaBufIo.Rdma;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.Rnic.Tests;

/// <summary>Cards opened by a host, from an expression, as a plugin; and what they are for: storage to memory to the network without the CPU.</summary>
public sealed class HostTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("dmabufio-rnic-").FullName;
    private readonly ModelIommu _iommu = new();

    public void Dispose()
    {
        _iommu.Dispose();
        Directory.Delete(_folder, recursive: true);
        Assert.True(_iommu.Faults == 0 && _iommu.StaleAccesses == 0 && _iommu.LeakedMappings == 0, string.Join(Environment.NewLine, _iommu.Reports));
    }

    [Fact]
    public void A_host_opens_cards_by_name_and_closes_them()
    {
        using DmaBufIoHost host = Start(static o => o.AddBuiltIn<RnicPlugin>());
        Assert.Contains("rnic", host.Plugins.DeviceWords);
        OpenedDevice left = host.Open("rnic:left");
        using OpenedDevice right = host.Open("rnic:right,thread=off");
        RdmaDevice card = left.RdmaDevice;
        Assert.Equal(("left", "left", "rnic"), (left.Name, card.Name, left.Root.DriverName));
        Assert.Contains("thread of its own", card.Description, StringComparison.Ordinal);
        Assert.Empty(left.BlockDevices);
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => left.OpenFile()).Errno);
        RdmaQueuePair near = card.CreateQueuePair();
        RdmaQueuePair far = right.RdmaDevice.CreateQueuePair();
        near.Connect(far.Address);
        far.Connect(near.Address);
        left.Root.Reset();
        Assert.Equal((Errno.ECANCELED, Errno.ECONNRESET), (near.Reason, far.Reason));
        left.Dispose();
        Assert.True(card.IsRemoved);
        Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => left.RdmaDevice).Errno);
        host.Open("rnic:left").Dispose(); // the name is free again
    }

    [Theory]
    [InlineData("rnic:,thread=on", "nothing stands after")]
    [InlineData("rnic:a,speed=9", "has no option 'speed'")]
    [InlineData("rnic:a,thread=perhaps", "neither on nor off")]
    [InlineData("rnic:a(rnic:b)", "stands on no other device")]
    public void A_wrong_expression_is_refused_and_opens_nothing(string expression, string problem)
    {
        using DmaBufIoHost host = Start(static o => o.AddBuiltIn<RnicPlugin>());
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => host.Open(expression));
        Assert.Contains(problem, refused.Message, StringComparison.Ordinal);
        Assert.Empty(host.Devices);
        host.Open("rnic:a").Dispose();
    }

    [Fact]
    public void A_name_that_is_taken_is_refused()
    {
        using DmaBufIoHost host = Start(static o => o.AddBuiltIn<RnicPlugin>());
        using OpenedDevice first = host.Open("rnic:same");
        Assert.Equal(Errno.EEXIST, Assert.Throws<DmaBufIoException>(() => host.Open("rnic:same")).Errno);
    }

    [Fact]
    public void The_plugin_is_collected_when_it_is_unloaded_after_use()
    {
        string plugin = Directory.CreateDirectory(Path.Combine(_folder, "DmaBufIo.Importers.Rnic")).FullName;
        foreach (string file in Directory.GetFiles(AppContext.BaseDirectory, "DmaBufIo.Importers.Rnic.dll"))
            File.Copy(file, Path.Combine(plugin, Path.GetFileName(file)));
        using DmaBufIoHost host = Start(o => o.PluginFolder = _folder);
        Assert.True(host.Plugins.All.Any(static p => p is { Name: "rnic", State: PluginState.Loaded }), string.Join('\n', host.Plugins.All.Select(static p => p.Reason)));
        Use(host);
        UnloadedPlugin unloaded = host.Plugins.Unload("rnic");
        for (int i = 0; i < 50 && !unloaded.IsCollected; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            Thread.Sleep(5);
        }

        Assert.True(unloaded.IsCollected, "The load context of the plugin was not collected: something still refers to an object or a type of it.");
        Assert.DoesNotContain("rnic", host.Plugins.DeviceWords);
    }

    [Fact]
    public void A_file_goes_from_storage_through_memory_and_network_to_storage_without_a_copy_by_the_CPU()
    {
        string source = Path.Combine(_folder, "source");
        string target = Path.Combine(_folder, "target");
        byte[] contents = new byte[512 << 10];
        new Random(8).NextBytes(contents);
        File.WriteAllBytes(source, contents);
        File.WriteAllBytes(target, new byte[contents.Length]);
        long copied = Counters.BytesCopied.Value;
        using (DmaBufIoHost host = Start(static o => o.AddBuiltIn<RnicPlugin>().AddBuiltIn<NvmePciPlugin>().AddBuiltIn<NvmeModelPlugin>().AddBuiltIn<ModelsPlugin>()))
        {
            using OpenedDevice from = host.Open(source, readOnly: true);
            using OpenedDevice to = host.Open(target);
            using OpenedDevice left = host.Open("rnic:left");
            using OpenedDevice right = host.Open("rnic:right");
            using ExportedBuffer near = host.CreateBuffer("moving", "near", 64 << 10);
            using ExportedBuffer far = host.CreateBuffer("moving", "far", 64 << 10);
            Relay(host, from, to, left, right, near, far, contents.Length);
        }

        Assert.Equal(contents, File.ReadAllBytes(target));
        Assert.Equal(copied, Counters.BytesCopied.Value);
    }

    private static void Relay(DmaBufIoHost host, OpenedDevice from, OpenedDevice to, OpenedDevice left, OpenedDevice right, ExportedBuffer near, ExportedBuffer far, int length)
    {
        const int Block = 16 << 10;
        using RdmaQueuePair sender = left.RdmaDevice.CreateQueuePair();
        using RdmaQueuePair receiver = right.RdmaDevice.CreateQueuePair();
        sender.Connect(receiver.Address);
        receiver.Connect(sender.Address);
        IoFile[] files = [from.OpenFile(OpenFlags.Direct | OpenFlags.ReadOnly), sender.OpenFile(), receiver.OpenFile(), to.OpenFile()];
        using (var ring = new Ring(new RingOptions { Name = "relay", Tokens = host.TokenOptions }))
        {
            for (int slot = 0; slot < 4; slot++)
                ring.RegisterBuffer(slot, new BufferRegistration { Buffer = (slot < 2 ? near : far).Buffer, File = files[slot] });
            for (int at = 0; at < length; at += Block)
            {
                int memory = at % (64 << 10);
                Do(ring, r => r.TryReadFixed(files[0], 0, memory, Block, at, 1));
                near.Move(Rig.Token);
                Assert.True(ring.TryReadFixed(files[2], 2, memory, Block, 0, 2));
                ring.Submit(Rig.Token);
                far.Move(Rig.Token); // with the read in flight
                Do(ring, r => r.TryWriteFixed(files[1], 1, memory, Block, 0, 3), 2);
                Do(ring, r => r.TryWriteFixed(files[3], 3, memory, Block, at, 4));
            }

            Do(ring, r => r.TryFlush(files[3], 5), bytes: 0);
        }

        foreach (IoFile file in files)
            file.Put();

        void Do(Ring ring, Func<Ring, bool> prepare, int count = 1, long bytes = Block)
        {
            Assert.True(prepare(ring));
            ring.Submit(Rig.Token);
            var completions = new RingCompletion[count];
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(Rig.Token);
            limit.CancelAfter(Rig.Limit);
            Assert.Equal(count, ring.Reap(completions, count, limit.Token));
            Assert.All(completions, c => Assert.Equal((Errno.Ok, bytes), (c.Status, c.Bytes)));
        }
    }

    // A frame of its own: a local of the test's frame would keep the plugin's objects.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Use(DmaBufIoHost host)
    {
        using OpenedDevice left = host.Open("rnic:left");
        using OpenedDevice right = host.Open("rnic:right");
        using RdmaQueuePair near = left.RdmaDevice.CreateQueuePair();
        using RdmaQueuePair far = right.RdmaDevice.CreateQueuePair();
        near.Connect(far.Address);
        far.Connect(near.Address);
        using ExportedBuffer buffer = host.CreateBuffer("moving", "b", 64 << 10);
        RdmaMemoryRegion here = left.RdmaDevice.RegisterMemory(buffer.Buffer, RdmaAccess.None);
        RdmaMemoryRegion there = right.RdmaDevice.RegisterMemory(buffer.Buffer, RdmaAccess.LocalWrite);
        far.PostReceive(RdmaWorkRequest.Receive(1, there, 8192, 4096));
        near.PostSend(RdmaWorkRequest.Send(2, here, 0, 4096));
        Assert.Equal(RdmaStatus.Success, Rig.Next(near.SendCompletions).Status);
        Assert.Equal(RdmaStatus.Success, Rig.Next(far.ReceiveCompletions).Status);
        buffer.Move(Rig.Token);
        here.Deregister(Rig.Token);
        there.Deregister(Rig.Token);
    }

    private DmaBufIoHost Start(Action<DmaBufIoOptions> configure)
    {
        var options = new DmaBufIoOptions { PluginFolder = _folder };
        options.UseFabric(_iommu);
        configure(options);
        if (!options.LoadPluginFolder || !Directory.EnumerateDirectories(_folder).Any())
            options.LoadPluginFolder = false;
        else
            options.AddBuiltIn<ModelsPlugin>();
        return DmaBufIoHost.Create(options);
    }
}
