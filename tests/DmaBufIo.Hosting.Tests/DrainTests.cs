using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests;

/// <summary>A plugin is drained: what is alive of it is ended, or it stays as it was.</summary>
public sealed class DrainTests : LivingPluginTests
{
    [Fact]
    public void Devices_of_the_plugin_close_newest_first_with_what_other_plugins_have_put_on_them_and_are_named()
    {
        using DmaBufIoHost host = Start();
        OpenedDevice pair = host.Open("pair(held:a,held:b)");
        OpenedDevice other = host.Open("fake:x");
        OpenedDevice single = host.Open("held:c");
        var changes = Changes(host);
        Yard.Journal.Clear();

        UnloadedPlugin unloaded = host.Plugins.Unload("held", UnloadPolicy.Drain, TestContext.Current.CancellationToken);

        Assert.Equal(["c", "pair(a,b)"], unloaded.ClosedDevices);
        Assert.Empty(unloaded.DroppedBuffers);
        Assert.Equal([other], host.Devices);
        Assert.Equal((0, 0), (pair.BlockDevices.Count, single.BlockDevices.Count));
        Assert.Equal(["dispose pair(a,b)"], Yard.Journal);
        Assert.Equal(["good"], Own(host).Select(static p => p.Name));
        Assert.Equal([PluginChange.Draining, PluginChange.Unloaded], changes.Select(static c => c.Change));
        Assert.Equal(["c", "pair(a,b)"], changes[1].Unloaded!.ClosedDevices);
        Assert.Equal(
            [1004, 2001, 2001, 1002],
            Yard.Logs.Lines.Where(static l => l.Category == "DmaBufIo.Hosting" && l.Event.Id / 1000 != 3).Select(static l => l.Event.Id).SkipWhile(static id => id != 1004));
        AssertCollected(unloaded);
    }

    [Fact]
    public void T11_requests_in_flight_end_once_with_an_error_and_the_token_answers_ENODEV()
    {
        using DmaBufIoHost host = Start();
        OpenedDevice device = host.Open("held:a");
        using ExportedBuffer buffer = host.CreateBuffer("moving", "b0", 1 << 20);
        var file = new BlockDeviceFile(device.BlockDevice);
        using (var ring = new Ring(host.RingOptions with { Entries = 8 }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = file });
            Yard.Puppets["a"].Hold = true;
            for (ulong i = 0; i < 4; i++)
                Assert.True(ring.TryReadFixed(file, 0, 0, 4096, 0, i));
            ring.Submit(TestContext.Current.CancellationToken);
            Assert.Equal(4, Yard.Puppets["a"].Held);

            UnloadedPlugin unloaded = host.Plugins.Unload("held", UnloadPolicy.Drain, TestContext.Current.CancellationToken);

            Assert.Equal(["a"], unloaded.ClosedDevices);
            var completions = new RingCompletion[8];
            Assert.Equal(4, ring.Reap(completions, 4, TestContext.Current.CancellationToken));
            Assert.Equal(
                Enumerable.Range(0, 4).Select(static i => new RingCompletion((ulong)i, Errno.ECANCELED, 0)), completions.Take(4).OrderBy(static c => c.UserData));
            Assert.Equal(0, ring.Reap(completions));
            Assert.True(ring.TryReadFixed(file, 0, 0, 4096, 0, 9));
            ring.Submit(TestContext.Current.CancellationToken);
            Assert.Equal(1, ring.Reap(completions, 1, TestContext.Current.CancellationToken));
            Assert.Equal(new RingCompletion(9, Errno.ENODEV, 0), completions[0]);
            Assert.Equal(Errno.ENODEV, Assert.Throws<DmaBufIoException>(() => file.OpenToken(buffer.Buffer, Dma.DmaDirection.Bidirectional)).Errno);
        }

        file.Put();
        Assert.Equal((0, 0), (Iommu.Faults, Iommu.StaleAccesses));
    }

    [Fact]
    public void A_registration_that_holds_a_buffer_keeps_the_plugin_to_the_limit_and_the_refusal_names_token_and_file()
    {
        using DmaBufIoHost host = Start();
        using OpenedDevice device = host.Open("held:a");
        host.CreateBuffer("plain", "kept", 4096);
        var file = new BlockDeviceFile(device.BlockDevice);
        using var ring = new Ring(host.RingOptions with { Entries = 8 });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = host.Buffers[0].Buffer, File = file });
        file.Put();
        var changes = Changes(host);

        using var limit = new CancellationTokenSource();
        Actor drain = Actor.Start("drain", () => AssertKept(
            () => host.Plugins.Unload("good", UnloadPolicy.Drain, limit.Token), "it could not be drained in time: buffer kept held by token ", "(kept on a) of file a"));
        drain.UntilItWaitsFor("end of what keeps plugin good");

        // Meanwhile it is there for those who have something of it, and for nobody else.
        Assert.Equal([PluginState.Draining, PluginState.Loaded], Own(host).Select(static p => p.State));
        Assert.Contains("fake", host.Plugins.DeviceWords);
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => host.Open("fake:x")).Errno);
        Assert.Equal(Errno.EBUSY, Assert.Throws<DmaBufIoException>(() => host.CreateBuffer("plain", "more", 4096)).Errno);
        Assert.Empty(host.Buffers);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), ReadOnce(ring, file));
        limit.Cancel();
        drain.Join();

        Assert.Equal([PluginState.Loaded, PluginState.Loaded], Own(host).Select(static p => p.State));
        Assert.Equal([PluginChange.Draining, PluginChange.Kept], changes.Select(static c => c.Change));
        Assert.Contains("buffer kept held by token ", changes[1].Reason);
        Assert.Contains(Yard.Logs.Lines, static l => l.Event.Id == 1005);
        host.Open("fake:x").Dispose();

        // The second one is over as soon as the registration is.
        Actor again = Actor.Start("again", () => Assert.Empty(
            host.Plugins.Unload("good", UnloadPolicy.Drain, TestContext.Current.CancellationToken).ClosedDevices));
        again.UntilItWaitsFor("end of what keeps plugin good");
        ring.RemoveBuffer(0);
        again.Join();
        Assert.Equal(["held"], Own(host).Select(static p => p.Name));
        Assert.Contains("free kept", Yard.Journal);
    }

    [Fact]
    public void A_reference_of_the_applications_own_keeps_the_plugin_and_is_counted_in_the_refusal()
    {
        using DmaBufIoHost host = Start();
        DmaBuf buffer = host.CreateBuffer("plain", "mine", 4096).Buffer;
        buffer.Get();
        using var limit = new CancellationTokenSource();
        Actor drain = Actor.Start("drain", () => AssertKept(
            () => host.Plugins.Reload("good", UnloadPolicy.Drain, limit.Token), "it could not be drained in time: buffer mine held by 1 references"));
        drain.UntilItWaitsFor("end of what keeps plugin good");
        limit.Cancel();
        drain.Join();
        buffer.Put();

        UnloadedPlugin unloaded = host.Plugins.Unload("good", UnloadPolicy.Drain, TestContext.Current.CancellationToken);
        Assert.Empty(unloaded.DroppedBuffers); // it was dropped the first time
    }

    [Fact]
    public void A_device_that_does_not_close_keeps_the_plugin_and_goes_on_closing()
    {
        using DmaBufIoHost host = Start();
        host.Open("held:first");
        host.Open("held:last,stuck=on");
        host.Open("held:later");
        using var limit = new CancellationTokenSource();
        Actor drain = Actor.Start("drain", () => AssertKept(
            () => host.Plugins.Unload("held", UnloadPolicy.Drain, limit.Token), "device first, device last not closed", "closed: later"));
        drain.UntilItWaitsFor("closing of device last");
        limit.Cancel();
        drain.Join();
        Assert.Equal(["first", "last"], host.Devices.Select(static d => d.Name));
        Assert.All(host.Plugins.All, static p => Assert.Equal(PluginState.Loaded, p.State));

        Yard.Close.Set();
        UnloadedPlugin unloaded = host.Plugins.Unload("held", UnloadPolicy.Drain, TestContext.Current.CancellationToken);
        Assert.Contains("first", unloaded.ClosedDevices);
        Assert.Empty(host.Devices);
    }

    [Fact]
    public void A_device_that_the_drain_before_is_still_closing_is_waited_for_and_not_told_as_closed()
    {
        using DmaBufIoHost host = Start();
        host.Open("held:last,stuck=on");
        for (int i = 0; i < 2; i++)
        {
            using var limit = new CancellationTokenSource();
            Actor drain = Actor.Start("drain", () =>
            {
                var error = Assert.Throws<DmaBufIoException>(() => host.Plugins.Unload("held", UnloadPolicy.Drain, limit.Token));
                Assert.Contains("device last not closed", error.Problem, StringComparison.Ordinal);
                Assert.DoesNotContain("closed: ", error.Problem, StringComparison.Ordinal);
            });
            drain.UntilItWaitsFor("closing of device last");
            limit.Cancel();
            drain.Join();
        }

        Actor third = Actor.Start("third", () =>
            Assert.Equal(["last"], host.Plugins.Unload("held", UnloadPolicy.Drain, TestContext.Current.CancellationToken).ClosedDevices));
        third.UntilItWaitsFor("closing of device last");
        Yard.Close.Set();
        third.Join();
        Assert.Empty(host.Devices);
    }

    [Fact]
    public void A_limit_that_is_over_already_closes_nothing()
    {
        using DmaBufIoHost host = Start();
        using OpenedDevice device = host.Open("held:a");
        AssertKept(() => host.Plugins.Unload("held", UnloadPolicy.Drain, new CancellationToken(canceled: true)), "device a not closed");
        Assert.Single(device.BlockDevices);
    }

    [Fact]
    public void A_device_whose_closing_throws_is_closed_and_the_plugin_goes()
    {
        using DmaBufIoHost host = Start();
        host.Open("fake:a,fail=remove");
        UnloadedPlugin unloaded = host.Plugins.Unload("good", UnloadPolicy.Drain, TestContext.Current.CancellationToken);
        Assert.Equal(["nvme0"], unloaded.ClosedDevices);
        Assert.Contains(Yard.Logs.Lines, static l => l.Event.Id == 2003 && l.Text.Contains("nvme0 cannot be removed", StringComparison.Ordinal));
    }

    [Fact]
    public void A_host_that_ends_does_not_wait_for_a_drain()
    {
        DmaBufIoHost host = Start();
        DmaBuf buffer = host.CreateBuffer("plain", "mine", 4096).Buffer;
        buffer.Get();
        Actor drain = Actor.Start("drain", () => AssertKept(() => host.Plugins.Unload("good", UnloadPolicy.Drain), "buffer mine held by 1 references"));
        drain.UntilItWaitsFor("end of what keeps plugin good");
        host.Dispose();
        drain.Join();
        buffer.Put();
    }

    [Fact]
    public void A_plugin_with_nothing_alive_is_unloaded_at_once_by_either_policy()
    {
        using DmaBufIoHost host = Start();
        var changes = Changes(host);
        host.Plugins.Unload("held", UnloadPolicy.Drain, new CancellationToken(canceled: true));
        host.Plugins.Unload("good", UnloadPolicy.Refuse, TestContext.Current.CancellationToken);
        Assert.Equal([PluginChange.Unloaded, PluginChange.Unloaded], changes.Select(static c => c.Change));
    }

    [Fact]
    public void Who_is_told_of_a_change_may_not_make_one_and_what_he_throws_is_logged()
    {
        using DmaBufIoHost host = Start();
        var errors = new List<Exception>();
        host.Plugins.PluginChanged += (_, change) =>
        {
            errors.Add(Assert.Throws<InvalidOperationException>(() => host.Plugins.Reload("good")));
            throw new InvalidOperationException($"told of {change.Plugin.Name}");
        };
        host.Plugins.Unload("held");
        Assert.Single(errors);
        Assert.Contains(Yard.Logs.Lines, static l => l.Event.Id == 1009 && l.Text.Contains("told of held", StringComparison.Ordinal));
        Assert.Equal("good", Assert.Single(Own(host)).Name);
    }

    [Fact]
    public void Listeners_after_one_that_throws_are_told_too()
    {
        using DmaBufIoHost host = Start();
        host.Plugins.PluginChanged += static (_, _) => throw new InvalidOperationException("the first");
        List<PluginChangedEventArgs> changes = Changes(host);
        host.Plugins.PluginChanged += static (_, _) => throw new InvalidOperationException("the third");
        host.Plugins.Unload("held");
        Assert.Equal([PluginChange.Unloaded], changes.Select(static c => c.Change));
        Assert.Equal(2, Yard.Logs.Lines.Count(static l => l.Event.Id == 1009));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(1024)]
    public void A_new_version_that_does_not_pass_the_look_leaves_the_old_one_and_its_devices(int lacking)
    {
        using DmaBufIoHost host = Start();
        using OpenedDevice device = host.Open("fake:a");
        byte[] whole = File.ReadAllBytes(Yard.GoodAssembly);
        File.WriteAllBytes(Yard.GoodAssembly, whole[..^lacking]);
        var changes = Changes(host);

        var error = Assert.Throws<DmaBufIoException>(() => host.Plugins.Reload("good", UnloadPolicy.Drain, TestContext.Current.CancellationToken));

        Assert.Contains("its new version is refused, and the old one stays loaded: an assembly of it is not a whole .NET assembly", error.Problem);
        Assert.Equal(PluginChange.Kept, Assert.Single(changes).Change);
        Assert.Single(device.BlockDevices);
        host.Open("fake:b").Dispose();
        File.WriteAllBytes(Yard.GoodAssembly, whole);
        Assert.Equal(["nvme0"], host.Plugins.Reload("good", UnloadPolicy.Drain, TestContext.Current.CancellationToken).Unloaded.ClosedDevices);
    }

    internal static List<PluginChangedEventArgs> Changes(DmaBufIoHost host)
    {
        var changes = new List<PluginChangedEventArgs>();
        host.Plugins.PluginChanged += (_, change) =>
        {
            lock (changes)
                changes.Add(change);
        };
        return changes;
    }

    private static RingCompletion ReadOnce(Ring ring, BlockDeviceFile file)
    {
        Assert.True(ring.TryReadFixed(file, 0, 0, 512, 0, 1));
        ring.Submit(TestContext.Current.CancellationToken);
        var completions = new RingCompletion[1];
        Assert.Equal(1, ring.Reap(completions, 1, TestContext.Current.CancellationToken));
        return completions[0];
    }

    private static void AssertKept(Action unload, params string[] problem)
    {
        var error = Assert.Throws<DmaBufIoException>(unload);
        Assert.Equal(Errno.EBUSY, error.Errno);
        Assert.All(problem, part => Assert.Contains(part, error.Problem, StringComparison.Ordinal));
    }

    private DmaBufIoHost Start()
    {
        Yard.Add(PluginYard.Good);
        Yard.Add(PluginYard.Held);
        return StartWithModels();
    }
}
