using System.Runtime.CompilerServices;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests;

/// <summary>The plugins follow their folder while the host runs.</summary>
public sealed class HotReloadTests : WatchedPluginTests
{
    [Fact]
    public void A_plugin_that_comes_is_loaded_one_thatChanges_is_reloaded_and_one_that_goes_is_unloaded()
    {
        using DmaBufIoHost host = Start();
        Assert.Empty(Own(host));

        string folder = Yard.Add(PluginYard.Good);
        Follow();
        Assert.Equal((PluginChange.Loaded, new Version(0, 1, 0, 0)), Last());
        host.Open("fake:a").Dispose();

        SetVersion(7);
        Follow();
        Assert.Equal((PluginChange.Reloaded, new Version(7, 0, 0, 0)), Last());
        Assert.Equal(new Version(7, 0, 0, 0), Assert.Single(Own(host)).Version);
        host.Open("fake:a").Dispose();

        Directory.Delete(folder, recursive: true);
        Follow();
        Assert.Equal((PluginChange.Unloaded, new Version(7, 0, 0, 0)), Last());
        Assert.Empty(Own(host));
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => host.Open("fake:a")).Errno);
    }

    [Fact]
    public void A_look_at_folders_that_have_not_changed_does_nothing()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start();
        File.SetLastAccessTimeUtc(Yard.GoodAssembly, DateTime.UnixEpoch);
        Directory.CreateDirectory(Path.Combine(Yard.Folder, ".unpacked"));
        Follow();
        Assert.Empty(Changes);
        Assert.Equal("good", Assert.Single(Own(host)).Name);
    }

    [Fact]
    public void A_plugin_that_was_unloaded_by_hand_stays_unloaded_until_its_folderChanges()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start();
        host.Plugins.Unload("good");
        Directory.CreateDirectory(Path.Combine(Yard.Folder, ".unpacked"));
        Follow();
        Assert.Empty(Own(host));
        SetVersion(2);
        Follow();
        Assert.Equal((PluginChange.Loaded, new Version(2, 0, 0, 0)), Last());
    }

    [Fact]
    public void Refuse_keeps_a_plugin_with_open_devices_and_follows_when_they_are_closed()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start();
        OpenedDevice device = host.Open("fake:a");
        SetVersion(7);
        Follow();
        Assert.Equal((PluginChange.Kept, new Version(0, 1, 0, 0)), Last());
        Assert.Contains("1 device and 0 buffers made by it are alive", Changes[^1].Reason);
        Assert.Single(device.BlockDevices);
        host.Open("fake:b").Dispose();
        Follow();
        Assert.Equal((PluginChange.Kept, new Version(0, 1, 0, 0)), Last());

        device.Dispose();
        Follow();
        Assert.Equal((PluginChange.Reloaded, new Version(7, 0, 0, 0)), Last());
    }

    [Fact]
    public void Drain_closes_them_and_tells_their_names()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start(UnloadPolicy.Drain);
        OpenedDevice device = host.Open("pair(fake:a,fake:b)");
        ExportedBuffer buffer = host.CreateBuffer("plain", "b0", 4096);
        SetVersion(7);
        Follow();
        Assert.Equal([PluginChange.Draining, PluginChange.Reloaded], Changes.Select(static c => c.Change));
        Assert.Equal([device.Name], Changes[^1].Unloaded!.ClosedDevices);
        Assert.Equal([buffer.Name], Changes[^1].Unloaded!.DroppedBuffers);
        Assert.Empty(device.BlockDevices);
        host.Open("pair(fake:a,fake:b)").Dispose();
    }

    [Theory]
    [InlineData(UnloadPolicy.Refuse)]
    [InlineData(UnloadPolicy.Drain)]
    public void T11_a_reload_with_open_tokens_and_requests_in_flight_refuses_or_drains_as_the_policy_says(UnloadPolicy policy)
    {
        Yard.Add(PluginYard.Held);
        using DmaBufIoHost host = Start(policy);
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
            SetVersion(7, PluginYard.Held);
            Follow();

            bool drains = policy == UnloadPolicy.Drain;
            Assert.Equal((drains ? PluginChange.Reloaded : PluginChange.Kept, new Version(drains ? 7 : 0, drains ? 0 : 1, 0, 0)), Last());
            Assert.Equal(drains ? 0 : 1, device.BlockDevices.Count);
            Assert.Equal(drains ? 0 : 4, Yard.Puppets["a"].Held);
            Yard.Puppets["a"].Hold = false;
            Yard.Puppets["a"].Finish();
            var completions = new RingCompletion[8];
            Assert.Equal(4, ring.Reap(completions, 4, TestContext.Current.CancellationToken));
            Assert.All(completions.Take(4), c => Assert.Equal(drains ? Errno.ECANCELED : Errno.Ok, c.Status));
            Assert.True(ring.TryReadFixed(file, 0, 0, 4096, 0, 9));
            ring.Submit(TestContext.Current.CancellationToken);
            Assert.Equal(1, ring.Reap(completions, 1, TestContext.Current.CancellationToken));
            Assert.Equal(drains ? Errno.ENODEV : Errno.Ok, completions[0].Status);
        }

        file.Put();
        device.Dispose();
        host.Open("held:a").Dispose();
    }

    [Fact]
    public void A_drain_that_does_not_end_in_its_time_keeps_the_plugin_and_is_tried_again()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start(UnloadPolicy.Drain);
        DmaBufs.DmaBuf mine = host.CreateBuffer("plain", "mine", 4096).Buffer;
        mine.Get();
        SetVersion(7);
        Actor look = Actor.Start("look", Follow);
        look.UntilItWaitsFor("end of what keeps plugin good");
        Time.Advance(TimeSpan.FromSeconds(30));
        look.Join();
        Assert.Equal(PluginChange.Kept, Changes[^1].Change);
        Assert.Contains("buffer mine held by 1 references", Changes[^1].Reason);
        host.Open("fake:a").Dispose(); // it works, and its end is a reason to try again

        mine.Put();
        Follow();
        Assert.Equal((PluginChange.Reloaded, new Version(7, 0, 0, 0)), Last());
    }

    [Theory]
    [InlineData("assembly")]
    [InlineData("manifest")]
    [InlineData("nothing")]
    public void A_plugin_that_is_half_copied_is_not_loaded_until_the_rest_has_come(string cut)
    {
        using DmaBufIoHost host = Start();
        string folder = Directory.CreateDirectory(Path.Combine(Yard.Folder, PluginYard.Good)).FullName;
        foreach (string file in Directory.GetFiles(PluginYard.FixtureFolder(PluginYard.Good)))
        {
            byte[] bytes = File.ReadAllBytes(file);
            bool isCut = cut switch
            {
                "assembly" => file.EndsWith("Good.dll", StringComparison.Ordinal),
                "manifest" => file.EndsWith(".deps.json", StringComparison.Ordinal),
                _ => false,
            };
            if (cut != "nothing" || file.EndsWith(".pdb", StringComparison.Ordinal))
                File.WriteAllBytes(Path.Combine(folder, Path.GetFileName(file)), isCut ? bytes[..(bytes.Length / 2)] : bytes);
        }

        Follow();
        Assert.Empty(Changes);
        Assert.Empty(Own(host));
        Assert.Contains(Yard.Logs.Lines, l => l.Event.Id == 1006 && l.Text.Contains(folder, StringComparison.Ordinal));

        foreach (string file in Directory.GetFiles(PluginYard.FixtureFolder(PluginYard.Good)))
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
        Follow();
        Assert.Equal((PluginChange.Loaded, new Version(0, 1, 0, 0)), Last());
    }

    [Fact]
    public void A_new_version_that_is_cut_off_or_too_new_leaves_the_old_one_at_work()
    {
        Yard.Add(PluginYard.Good);
        byte[] whole = File.ReadAllBytes(Yard.GoodAssembly);
        using DmaBufIoHost host = Start(UnloadPolicy.Drain);
        using OpenedDevice device = host.Open("fake:a");

        File.WriteAllBytes(Yard.GoodAssembly, whole[..^1024]);
        Follow();
        Assert.Empty(Changes); // a copy that is under way
        PluginYard.Rewrite(Path.Combine(PluginYard.FixtureFolder(PluginYard.Good), PluginYard.Good + ".dll"), Yard.GoodAssembly, static a =>
            a.MainModule.AssemblyReferences.Single(static r => r.Name == "DmaBufIo.Core").Version = new Version(0, 9, 0, 0));
        Follow();
        Assert.Equal((PluginChange.Kept, new Version(0, 1, 0, 0)), Last());
        Assert.Contains("was built against DmaBufIo.Core 0.9.0.0", Changes[^1].Reason);
        Assert.Single(device.BlockDevices);
        host.Open("fake:b").Dispose();

        File.WriteAllBytes(Yard.GoodAssembly, whole);
        Follow();
        Assert.Equal((PluginChange.Reloaded, new Version(0, 1, 0, 0)), Last());
        Assert.Empty(device.BlockDevices);
    }

    [Fact]
    public void A_new_version_whose_own_code_goes_wrong_is_refused_and_leaves_no_old_one()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start();
        string folder = Path.Combine(Yard.Folder, PluginYard.Good);
        string faulty = Path.Combine(PluginYard.FixtureFolder(PluginYard.Faulty), PluginYard.Faulty + ".dll");
        PluginYard.Rewrite(faulty, Yard.GoodAssembly, static a => a.Name.Name = "RegisterThrows");
        Follow();
        Assert.Equal([PluginChange.Unloaded, PluginChange.Refused], Changes.Select(static c => c.Change));
        Assert.Contains("the registration is broken", Changes[^1].Reason);
        PluginStatus left = Assert.Single(Own(host));
        Assert.Equal((folder, PluginState.Refused), (left.Folder, left.State));

        // One that was refused is forgotten with its folder.
        Directory.Delete(folder, recursive: true);
        Follow();
        Assert.Empty(Own(host));
    }

    [Fact]
    public void A_folder_that_was_renamed_is_the_same_plugin_in_another_place()
    {
        Yard.Add(PluginYard.Good, "b-good");
        using DmaBufIoHost host = Start();
        Directory.Move(Path.Combine(Yard.Folder, "b-good"), Path.Combine(Yard.Folder, "a-good"));
        Follow();
        Assert.Equal([PluginChange.Unloaded, PluginChange.Loaded], Changes.Select(static c => c.Change));
        Assert.Equal(Path.Combine(Yard.Folder, "a-good"), Assert.Single(Own(host)).Folder);
    }

    [Fact]
    public void A_new_version_is_unpacked_beside_and_renamed_into_place()
    {
        string folder = Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start();
        Yard.Add(PluginYard.Good, ".next");
        string next = Path.Combine(Yard.Folder, ".next", PluginYard.Good + ".dll");
        PluginYard.Rewrite(next, next, static a => a.Name.Version = new Version(3, 0, 0, 0));
        Follow();
        Assert.Empty(Changes);
        Directory.Move(folder, Path.Combine(Yard.Folder, ".old"));
        Directory.Move(Path.Combine(Yard.Folder, ".next"), folder);
        Follow();
        Assert.Equal((PluginChange.Reloaded, new Version(3, 0, 0, 0)), Last());
    }

    [Fact]
    public void Ten_reloads_leave_nothing_behind_while_another_device_works_and_its_requests_all_end_well()
    {
        Yard.Add(PluginYard.Good);
        Yard.Add(PluginYard.Held);
        using DmaBufIoHost host = Start(UnloadPolicy.Drain);
        using OpenedDevice device = host.Open("held:work");
        using ExportedBuffer buffer = host.CreateBuffer("moving", "b0", 1 << 20);
        bool stop = false;
        long ended = 0;
        Actor worker = Actor.Start("worker", () =>
        {
            var file = new BlockDeviceFile(device.BlockDevice);
            using (var ring = new Ring(host.RingOptions with { Entries = 16 }))
            {
                ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = file });
                var completions = new RingCompletion[16];
                while (!Volatile.Read(ref stop))
                {
                    while (ring.TryReadFixed(file, 0, 0, 4096, 0, 1))
                    {
                    }

                    ring.Submit();
                    foreach (RingCompletion completion in completions.AsSpan(0, ring.Reap(completions, 1)))
                        Assert.Equal(new RingCompletion(1, Errno.Ok, 4096), completion);
                    Interlocked.Increment(ref ended);
                }
            }

            file.Put();
        });

        for (int i = 1; i <= 10; i++)
        {
            OpenAndForget(host);
            long before = Interlocked.Read(ref ended);
            SetVersion(i);
            Follow();
            Assert.Equal((PluginChange.Reloaded, new Version(i, 0, 0, 0)), Last());
            AssertCollected(Changes[^1].Unloaded!);
            Actor.Until(() => Interlocked.Read(ref ended) > before || worker.IsDone, "the worker goes on");
        }

        Volatile.Write(ref stop, true);
        worker.Join();
        Assert.Equal((0, 0), (Iommu.Faults, Iommu.StaleAccesses));
    }

    [Fact]
    public void Nothing_is_followed_after_the_host_has_ended_or_when_it_is_not_wanted()
    {
        Yard.Add(PluginYard.Good);
        using (DmaBufIoHost host = Yard.Start(o => o.TimeProvider = Time))
        {
            SetVersion(7);
            Assert.Equal(0, Time.Armed);
            Assert.Equal(new Version(0, 1, 0, 0), Assert.Single(host.Plugins.All).Version);
        }

        DmaBufIoHost watched = Start();
        watched.Dispose();
        SetVersion(8);
        Assert.Equal(0, Time.Armed);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void OpenAndForget(DmaBufIoHost host)
    {
        host.Open("pair(fake:a,fake:b)");
        host.CreateBuffer("plain", "b1", 4096);
    }
}
