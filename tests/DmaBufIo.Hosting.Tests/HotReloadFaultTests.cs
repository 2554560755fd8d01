using System.Runtime.Versioning;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Rings;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests;

/// <summary>Hot reload goes on where a plugin, a folder or a file does not do as it should.</summary>
[SupportedOSPlatform("linux")]
public sealed class HotReloadFaultTests : WatchedPluginTests
{
    private const UnixFileMode Everybody = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;

    [Theory]
    [InlineData("DisposeThrows")]
    [InlineData("DisposeFails")]
    public void A_plugin_whose_disposal_throws_is_reloaded_all_the_same(string fault)
    {
        string assembly = Path.Combine(Yard.AddRenamed(PluginYard.Faulty, fault), fault + ".dll");
        using DmaBufIoHost host = Start();
        PluginYard.Rewrite(assembly, assembly, static a => a.Name.Version = new Version(7, 0, 0, 0));
        Follow();
        Assert.Equal([PluginChange.Reloaded], Changes.Select(static c => c.Change));
        Assert.Equal(PluginState.Loaded, Assert.Single(Own(host)).State);
        Assert.Contains(Yard.Logs.Lines, static l => l.Event.Id == 1010);

        Directory.Delete(Path.GetDirectoryName(assembly)!, recursive: true); // so that the host ends without it
        Follow();
        Assert.Equal([PluginChange.Unloaded], Changes.Select(static c => c.Change));
    }

    [Fact]
    public void A_folder_that_may_not_be_read_when_it_comes_does_not_keep_those_after_it_from_being_looked_at()
    {
        File.SetUnixFileMode(Yard.Folder, Everybody);
        using DmaBufIoHost host = Start();
        string closed = AddClosed("A-closed");
        Yard.Add(PluginYard.Good);
        ForeignUser.Run(Follow);
        Assert.Equal([PluginChange.Loaded], Changes.Select(static c => c.Change));
        Assert.Equal("good", Changes[0].Plugin.Name);
        Assert.Contains(Yard.Logs.Lines, l => l.Event.Id == 1008 && l.Text.Contains(closed, StringComparison.Ordinal));
        File.SetUnixFileMode(closed, Everybody);
    }

    [Fact]
    public void A_folder_that_may_not_be_read_when_the_host_starts_keeps_neither_the_host_nor_the_others()
    {
        File.SetUnixFileMode(Yard.Folder, Everybody);
        string closed = AddClosed("A-closed");
        Yard.Add(PluginYard.Good);
        DmaBufIoHost? started = null;
        ForeignUser.Run(() => started = Start());
        using DmaBufIoHost host = started!;
        Assert.Equal(
            [("A-closed", PluginState.Refused), ("good", PluginState.Loaded)],
            Own(host).OrderBy(static p => p.Name, StringComparer.Ordinal).Select(static p => (p.Name, p.State)));
        SetVersion(7);
        ForeignUser.Run(Follow);
        Assert.Equal((PluginChange.Reloaded, new Version(7, 0, 0, 0)), Last());
        Assert.Contains(Yard.Logs.Lines, l => l.Event.Id == 1008 && l.Text.Contains(closed, StringComparison.Ordinal));
        File.SetUnixFileMode(closed, Everybody);
    }

    [Fact]
    public void A_plugin_folder_that_may_not_be_read_is_told_as_that()
    {
        File.SetUnixFileMode(Yard.Folder, UnixFileMode.None);
        DmaBufIoException? error = null;
        ForeignUser.Run(() => error = Assert.Throws<DmaBufIoException>(() => Start()));
        File.SetUnixFileMode(Yard.Folder, Everybody);
        Assert.Equal(Errno.EACCES, error!.Errno);
        Assert.Equal(0, Time.Armed);
    }

    [Fact]
    public void A_file_that_may_not_be_read_leaves_its_folder_to_the_next_look()
    {
        using DmaBufIoHost host = Start();
        File.SetUnixFileMode(Yard.Folder, Everybody);
        string folder = Yard.Add(PluginYard.Good);
        File.SetUnixFileMode(Yard.GoodAssembly, UnixFileMode.None);
        ForeignUser.Run(Follow);
        Assert.Empty(Changes);
        Assert.Contains(Yard.Logs.Lines, l => l.Event.Id == 1008 && l.Text.Contains(folder, StringComparison.Ordinal));

        // A mode is no part of what a folder looks like: it is tried again because it was not seen.
        File.SetUnixFileMode(Yard.GoodAssembly, Everybody);
        ForeignUser.Run(Follow);
        Assert.Equal([PluginChange.Loaded], Changes.Select(static c => c.Change));
    }

    [Fact]
    public void A_plugin_that_a_registration_has_kept_follows_when_its_buffer_is_freed()
    {
        Yard.Add(PluginYard.Good);
        Yard.Add(PluginYard.Held);
        using DmaBufIoHost host = Start();
        using OpenedDevice device = host.Open("held:a");
        var file = new BlockDeviceFile(device.BlockDevice);
        using (var ring = new Ring(host.RingOptions with { Entries = 8 }))
        {
            using (ExportedBuffer buffer = host.CreateBuffer("plain", "b0", 4096))
                ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = file });
            SetVersion(7);
            Follow();
            Assert.Equal((PluginChange.Kept, new Version(0, 1, 0, 0)), Last());

            ring.RemoveBuffer(0);
            Actor.Until(() => FollowIfTold() && Changes[^1].Change == PluginChange.Reloaded, "the plugin is reloaded");
            Assert.Contains("free b0", Yard.Journal);
        }

        file.Put();
    }

    [Fact]
    public void A_plugin_that_was_kept_while_a_device_of_it_was_being_opened_follows_when_that_has_failed()
    {
        Yard.Add(PluginYard.Good);
        Yard.Add(PluginYard.Held);
        using DmaBufIoHost host = Start();
        Actor opener = Actor.Start("opener", () => Assert.Throws<InvalidOperationException>(() => host.Open("pair:x,fail(held:a,slow=on)")));
        Actor.Until(() => Yard.Puppets.ContainsKey("a"), "the device is being opened");
        SetVersion(7, PluginYard.Held);
        Follow();
        Assert.Equal(PluginChange.Kept, Last().Change);
        Yard.Close.Set();
        opener.Join();
        Actor.Until(() => FollowIfTold() && Changes[^1].Change == PluginChange.Reloaded, "the plugin is reloaded");
    }

    private string AddClosed(string name)
    {
        string folder = Yard.AddRenamed(PluginYard.Faulty, name);
        File.SetUnixFileMode(folder, UnixFileMode.None);
        return folder;
    }

    private bool FollowIfTold()
    {
        if (Time.Armed != 0)
            Time.Advance(new HotReloadOptions().ReloadDelay);
        return Changes.Count != 0;
    }
}
