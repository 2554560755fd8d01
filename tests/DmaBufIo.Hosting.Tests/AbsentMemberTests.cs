using DmaBufIo.Block;
using DmaBufIo.Hosting;
using DmaBufIo.Io;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Tests;

/// <summary>A set goes on without a member that is not there: what had been opened for that member is closed at once, and its plugin may go.</summary>
public sealed class AbsentMemberTests : LivingPluginTests
{
    [Fact]
    public void What_was_opened_for_a_member_that_is_taken_as_absent_is_closed_again()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start();

        using OpenedDevice set = host.Open("some(pair(fake:a,fake:b,fail=create),fake:c)");

        Assert.Equal(["absent", "fake-driver"], set.Root.Members.Select(static m => m.DriverName));
        Assert.Equal(["create a", "probe a as nvme0", "remove nvme0", "dispose function a", "create c", "probe c as nvme0"], Yard.Journal);
    }

    [Fact]
    public void A_member_that_fails_to_close_after_it_could_not_be_opened_is_told_and_is_absent()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start();

        using OpenedDevice set = host.Open("some(pair(fake:a,fail=remove,fake:b,fail=create),fake:c)");

        Assert.Equal(["absent", "fake-driver"], set.Root.Members.Select(static m => m.DriverName));
        Assert.Contains(Yard.Logs.Lines, static l => l.Event.Id == 2003 && l.Text.Contains("nvme0 cannot be removed", StringComparison.Ordinal));
    }

    [Fact]
    public void The_plugin_of_a_member_that_is_absent_is_not_kept_by_the_set()
    {
        Yard.Add(PluginYard.Good);
        Yard.Add(PluginYard.Held);
        using DmaBufIoHost host = Start();
        using OpenedDevice set = host.Open("some(held:x,fake:a,fail=create)");

        host.Plugins.Unload("good");

        Assert.Equal(["held"], Own(host).Select(static p => p.Name));
        Assert.Single(set.BlockDevices);
    }

    [Fact]
    public void Members_that_are_all_absent_leave_nothing_open()
    {
        Yard.Add(PluginYard.Good);
        using DmaBufIoHost host = Start();

        Assert.Throws<Errors.DmaBufIoException>(() => host.Open("some(fake:a,fail=create,pair(fake:b,fake:c,fail=create))"));

        Assert.Equal(["create b", "probe b as nvme0", "remove nvme0", "dispose function b"], Yard.Journal);
        host.Plugins.Unload("good");
    }

    private DmaBufIoHost Start() => StartWithModels(static o => o.AddBuiltIn<SomePlugin>());

    /// <summary>A plugin of the application whose sets take what is there.</summary>
    public sealed class SomePlugin : IDmaBufIoPlugin
    {
        public PluginInfo Info => new("some", new Version(1, 0), "Sets that go on without some of their members", PluginKinds.Importer) { Words = ["some"] };

        public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IBlockDeviceFactory, SomeFactory>();
    }

    private sealed class SomeFactory : IBlockDeviceFactory
    {
        public string Word => "some";

        public bool TakesAbsentMembers => true;

        public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members) => new Some(members.First(static m => !m.IsRemoved));
    }

    private sealed class Some(BlockDevice member) : BlockDevice
    {
        public override string Name => $"some of {member.Name}";

        public override long Capacity => member.Capacity;

        public override QueueLimits Limits => member.Limits;

        public override bool IsRemoved => member.IsRemoved;

        public override string Description => "a set";

        public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => member.OpenQueue(context, bios, depth);
    }
}
