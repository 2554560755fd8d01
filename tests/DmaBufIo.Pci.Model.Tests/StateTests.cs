using DmaBufIo.Errors;
using DmaBufIo.Pci.Model.Tests.Host;

namespace DmaBufIo.Pci.Model.Tests;

public sealed class StateTests
{
    private const uint Cc = (6u << 16) | (4u << 20);

    [Fact]
    public void The_function_identifies_as_an_NVMe_controller_with_the_registers_that_drivers_expect()
    {
        using var host = new NvmeHost(enable: false);
        Assert.Equal(0x010802, host.Model.Identity.ClassCode);
        Assert.True(host.Model.BarLength(0) >= 16384);
        Assert.Equal(0, host.Model.BarLength(1));
        Assert.Equal(17, host.Model.InterruptVectors);
        ulong cap = host.Model.Read64(0, 0);
        Assert.Equal(1023u, cap & 0xFFFF);
        Assert.Equal(1u, (cap >> 16) & 1); // CQR
        Assert.NotEqual(0u, (cap >> 24) & 0xFF); // TO
        Assert.Equal(0u, (cap >> 32) & 0xF); // DSTRD
        Assert.Equal(1u, (cap >> 37) & 0xFF); // CSS: NVM
        Assert.Equal(0u, (cap >> 48) & 0xF); // MPSMIN
        Assert.Equal(4u, (cap >> 52) & 0xF); // MPSMAX
        Assert.Equal((uint)cap, host.Model.Read32(0, 0));
        Assert.Equal((uint)(cap >> 32), host.Model.Read32(0, 4));
        Assert.Equal(0x00010400u, host.Model.Read32(0, 8));
        Assert.Equal(0u, host.Csts);
    }

    [Fact]
    public void The_bar_holds_the_doorbells_of_all_queues()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 4096, MaxQueues = 2047, OwnThread = false });
        Assert.Equal(32768, host.Model.BarLength(0));
        HostQueue queue = host.CreateQueue(2047);
        Assert.Equal(0, queue.Run(Command.Io(2, 0, 1, host.Page())).Code);
    }

    [Fact]
    public void Registers_of_64_bits_are_also_two_halves()
    {
        using var host = new NvmeHost(enable: false);
        host.Model.Write32(0, 0x28, 0x1234_5000);
        host.Model.Write32(0, 0x2C, 0x9);
        host.Model.Write64(0, 0x30, 0x7_8765_4000);
        Assert.Equal(0x9_1234_5000u, host.Model.Read64(0, 0x28));
        Assert.Equal(0x8765_4000u, host.Model.Read32(0, 0x30));
        Assert.Equal(7u, host.Model.Read32(0, 0x34));
    }

    [Fact]
    public void Enable_makes_ready_and_disable_forgets_all_but_the_admin_queue_registers()
    {
        using var host = new NvmeHost();
        host.CreateQueue();
        host.SetFeature(1, 5);
        ulong asq = host.Model.Read64(0, 0x28);
        host.Model.Write32(0, 0x14, Cc);
        Assert.Equal(0u, host.Csts);
        Assert.Equal(asq, host.Model.Read64(0, 0x28));
        host.Enable();
        Assert.Equal(0x101, host.Delete(0, 1).Code); // the I/O queue is gone
        Assert.Equal(3u, host.GetFeature(1).Result); // the feature has its default again
        Assert.Empty(host.Model.Violations);
    }

    [Theory]
    [InlineData(5u << 7, 31, 0ul)] // MPS above MPSMAX
    [InlineData(1u << 4, 31, 0ul)] // CSS not offered
    [InlineData(1u << 11, 31, 0ul)] // AMS not offered
    [InlineData(0u, 0, 0ul)] // one entry
    [InlineData(1u << 7, 31, 4096ul)] // aligned to 4 KiB, not to MPS
    public void An_enable_that_cannot_work_is_a_fatal_status(uint bits, int entries, ulong shift)
    {
        using var host = new NvmeHost(enable: false);
        host.Model.Write32(0, 0x24, (uint)(entries | (entries << 16)));
        host.Model.Write64(0, 0x28, TestFabric.Base + shift);
        host.Model.Write64(0, 0x30, TestFabric.Base + 65536);
        host.Model.Write32(0, 0x14, Cc | bits | 1);
        Assert.Equal(2u, host.Csts & 3); // CFS, not RDY
        host.OnlyViolation("CC");
        host.Model.Write32(0, 0x14, Cc);
        Assert.Equal(0u, host.Csts);
        host.Enable();
        Assert.Equal(1u, host.Csts);
    }

    [Fact]
    public void Page_size_and_admin_queue_do_not_change_while_enabled()
    {
        using var host = new NvmeHost();
        ulong asq = host.Model.Read64(0, 0x28);
        host.Model.Write32(0, 0x14, Cc | (1u << 7) | 1);
        host.Model.Write64(0, 0x28, asq + 65536);
        host.Model.Write32(0, 0x24, 0);
        Assert.Equal(Cc | 1, host.Model.Read32(0, 0x14));
        Assert.Equal(asq, host.Model.Read64(0, 0x28));
        Assert.Equal(["CC", "register", "register", "register"], host.Model.Violations.Select(v => v.Rule));
        host.Identify(1);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Shutdown_completes_flushes_and_a_new_enable_ends_it(bool ownThread)
    {
        using var file = new TempFile(4096);
        using var host = new NvmeHost(new NvmeModelOptions { Path = file.Path, OwnThread = ownThread });
        HostQueue queue = host.CreateQueue();
        host.Model.Write32(0, 0x14, Cc | (1u << 14) | 1);
        host.WaitStatus(0xC, 0x8);
        Assert.Equal(1u, host.Csts & 3);

        // After shutdown nothing is fetched any more.
        queue.Submit(Command.Io(2, 0, 1, host.Page()));
        host.Model.Advance();
        Assert.False(queue.TryReap(out _));
        host.Enable();
        Assert.Equal(1u, host.Csts);
        host.Identify(1);
    }

    [Fact]
    public void Shutdown_completes_while_the_controller_is_disabled()
    {
        using var host = new NvmeHost(enable: false);
        host.Model.Write32(0, 0x14, 2u << 14);
        Assert.Equal(8u, host.Csts);
    }

    [Fact]
    public void A_write_to_a_reserved_or_read_only_register_changes_nothing_and_is_recorded()
    {
        using var host = new NvmeHost(enable: false);
        ulong cap = host.Model.Read64(0, 0);
        host.Model.Write32(0, 0, 0);
        host.Model.Write32(0, 0x40, 5);
        Assert.Equal(cap, host.Model.Read64(0, 0));
        Assert.Equal(0u, host.Model.Read32(0, 0x40));
        Assert.Equal([0ul, 0x40ul], host.Model.Violations.Select(v => v.Address));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Reset_returns_to_power_on_and_drops_outstanding_commands(bool ownThread)
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = ownThread });
        HostQueue queue = host.CreateQueue();
        host.Admin.Submit(new Command { Opcode = 0x0C });
        host.Model.Stall = true;
        for (int i = 0; i < 10; i++)
            queue.Submit(Command.Io(2, 0, 1, host.Page()));
        host.Model.Reset();
        host.Model.Stall = false;
        host.Fabric.ForgetAccesses();
        host.Model.Advance();
        foreach (int register in new[] { 0x14, 0x1C, 0x24, 0x28, 0x2C, 0x30, 0x34 })
            Assert.Equal(0u, host.Model.Read32(0, register));
        Assert.False(queue.TryReap(out _, ring: false));
        host.Enable();
        queue = host.CreateQueue();
        Assert.Equal(0, queue.Run(Command.Io(2, 0, 1, host.Page())).Code);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Reset_and_Kill_wait_for_the_DMA_under_way(bool kill)
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = true });
        HostQueue queue = host.CreateQueue();
        using var entered = new ManualResetEventSlim();
        using var leave = new ManualResetEventSlim();
        ulong page = host.Page();
        bool ended = false;
        host.Fabric.OnAccess = access =>
        {
            if (access.Address != page)
                return;
            entered.Set();
            Assert.True(leave.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
            Volatile.Write(ref ended, true);
        };
        queue.Submit(Command.Io(2, 0, 1, page));
        Assert.True(entered.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
        bool sawEnd = false;
        var reset = new Thread(() =>
        {
            if (kill)
                host.Model.Kill();
            else
                host.Model.Reset();
            sawEnd = Volatile.Read(ref ended);
        });
        reset.Start();

        // Either it waits inside the call, as it must, or it has returned too early and says so.
        SpinWait.SpinUntil(() => (reset.ThreadState & (ThreadState.WaitSleepJoin | ThreadState.Stopped)) != 0);
        leave.Set();
        Assert.True(reset.Join(TimeSpan.FromSeconds(30)));
        Assert.True(sawEnd, "it returned while a DMA was under way");
        int accesses = host.Fabric.Accesses.Count;
        Assert.Equal(kill ? uint.MaxValue : 0u, host.Csts);
        host.Model.Dispose();
        Assert.Equal(accesses, host.Fabric.Accesses.Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Kill_makes_every_register_read_all_ones_and_ends_all_DMA(bool ownThread)
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = ownThread });
        HostQueue queue = host.CreateQueue(entries: 64);
        ulong page = host.Page();
        for (int i = 0; i < 60; i++)
            queue.Submit(Command.Io(2, 0, 8, page));
        host.Model.Kill();
        host.Fabric.ForgetAccesses();
        queue.Submit(Command.Io(2, 0, 1, page));
        host.Model.Advance();
        host.Model.Reset();
        for (int offset = 0; offset <= 0x3C; offset += 4)
            Assert.Equal(uint.MaxValue, host.Model.Read32(0, offset));
        Assert.Equal(ulong.MaxValue, host.Model.Read64(0, 0));
        host.Model.Write32(0, 0x14, Cc | 1);
        Assert.Equal(uint.MaxValue, host.Csts);
        Assert.Empty(host.Fabric.Accesses);
    }

    [Fact]
    public void Kill_during_a_command_stops_its_remaining_DMA()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(2);
        host.Fabric.OnAccess = access =>
        {
            if (access.Address == pages[0])
                host.Model.Kill();
        };
        host.Fabric.Memory(pages[1], 4096).Fill(0xCC);
        queue.Submit(Command.Io(2, 0, 16, pages[0], pages[1]));
        host.Model.Advance();
        Assert.Equal(pages[0], host.Fabric.Accesses[^1].Address);
        Assert.All(host.Fabric.Memory(pages[1], 4096).ToArray(), b => Assert.Equal(0xCC, b));
        Assert.False(queue.TryReap(out _, ring: false));
    }

    [Fact]
    public void Dispose_is_idempotent_and_leaves_the_fabric()
    {
        using var fabric = new TestFabric();
        var model = new NvmeControllerModel(new NvmeModelOptions { SizeBytes = 4096 }, fabric);
        Assert.Equal(1, fabric.LivingDevices);
        model.Dispose();
        model.Dispose();
        Assert.Equal(0, fabric.LivingDevices);
        Assert.Equal(uint.MaxValue, model.Read32(0, 0x1C));
    }

    [Fact]
    public void Disposing_from_an_interrupt_handler_is_refused_by_name()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = true });
        DmaBufIoException? error = null;
        using var done = new ManualResetEventSlim();
        host.Model.SetInterruptHandler(0, () =>
        {
            error = Assert.Throws<DmaBufIoException>(host.Model.Dispose);
            done.Set();
        });
        host.Identify(1);
        Assert.True(done.Wait(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken));
        Assert.Equal(Errno.EDEADLK, error!.Errno);
    }

    [Theory]
    [InlineData(1000, 5, 1024, 16)]
    [InlineData(512, -1, 1024, 16)]
    [InlineData(512, 5, 1, 16)]
    [InlineData(512, 5, 65537, 16)]
    [InlineData(512, 5, 1024, 0)]
    [InlineData(512, 5, 1024, 2048)]
    public void Options_out_of_range_are_refused(int lba, int mdts, int entries, int queues)
    {
        using var fabric = new TestFabric();
        var options = new NvmeModelOptions { SizeBytes = 4096, LbaSize = lba, Mdts = mdts, MaxQueueEntries = entries, MaxQueues = queues };
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => new NvmeControllerModel(options, fabric)).Errno);
        Assert.Equal(0, fabric.LivingDevices);
    }
}
