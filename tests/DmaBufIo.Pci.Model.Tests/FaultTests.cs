using DmaBufIo.Pci.Model.Tests.Host;

namespace DmaBufIo.Pci.Model.Tests;

public sealed class FaultTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_fault_on_the_data_is_a_data_transfer_error_and_the_controller_goes_on(byte opcode)
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong[] pages = host.ScatteredPages(2);
        host.Fabric.Faulting = (pages[1], pages[1] + 4096);
        Completion completion = queue.Run(Command.Io(opcode, 0, 16, pages[0], pages[1]));
        Assert.Equal(0x04, completion.Code);
        Assert.False(completion.DoNotRetry);
        host.Fabric.Faulting = default;
        Assert.Equal(0, queue.Run(Command.Io(opcode, 0, 16, pages[0], pages[1])).Code);
        Assert.Equal(1u, host.Csts);
        Assert.Empty(host.Model.Violations);
        Assert.Empty(host.Model.StoreErrors);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void A_fault_on_a_list_page_is_a_data_transfer_error(int listPage)
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 4 << 20, Mdts = 0, OwnThread = false });
        HostQueue queue = host.CreateQueue();
        (ulong prp1, ulong prp2) = host.BuildPrp(host.ScatteredPages(600), 0);
        ulong page = prp2 + (ulong)listPage * 4096;
        host.Fabric.Faulting = (page, page + 4096);
        Assert.Equal(0x04, queue.Run(Command.Io(2, 0, 4800, prp1, prp2)).Code);
        Assert.Equal(1u, host.Csts);
    }

    [Fact]
    public void A_fault_on_an_admin_payload_is_a_data_transfer_error()
    {
        using var host = new NvmeHost();
        ulong page = host.Page();
        host.Fabric.Faulting = (page, page + 4096);
        Assert.Equal(0x04, host.Admin.Run(new Command { Opcode = 6, Cdw10 = 1, Prp1 = page }).Code);
        HostQueue queue = host.CreateQueue();
        Assert.Equal(0x04, queue.Run(new Command { Opcode = 9, Nsid = 1, Cdw11 = 4, Prp1 = page }).Code);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_fault_on_a_command_fetch_is_fatal_until_the_next_reset(bool ownThread)
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = ownThread });
        ulong missing = TestFabric.Base - 65536;
        Assert.Equal(0, host.CreateCompletionQueue(1, 16, host.Page()).Code);
        Assert.Equal(0, host.CreateSubmissionQueue(1, 16, missing, 1).Code);
        host.Model.Write32(0, 0x1008, 1);
        host.Model.Advance();
        host.WaitStatus(3, 3); // CFS beside RDY
        host.Admin.Submit(new Command { Opcode = 6, Cdw10 = 1, Prp1 = host.Page() });
        host.Model.Advance();
        Assert.False(host.Admin.TryReap(out _));
        host.Enable();
        Assert.Equal(1u, host.Csts);
        host.Identify(1);
    }

    [Fact]
    public void A_fault_on_a_completion_is_fatal()
    {
        using var host = new NvmeHost();
        ulong submission = host.Page();
        Assert.Equal(0, host.CreateCompletionQueue(1, 16, TestFabric.Base - 65536).Code);
        Assert.Equal(0, host.CreateSubmissionQueue(1, 16, submission, 1).Code);
        var queue = new HostQueue(host, 1, submission, 16, host.Page(), 16, 1);
        queue.Submit(Command.Io(2, 0, 1, host.Page()));
        host.Model.Advance();
        Assert.Equal(3u, host.Csts);
    }

    [Fact]
    public void After_a_fatal_fault_the_rest_of_a_batch_is_not_executed()
    {
        using var host = new NvmeHost();
        ulong completion = host.Page();
        ulong submission = host.Page();
        Assert.Equal(0, host.CreateCompletionQueue(1, 16, completion).Code);
        Assert.Equal(0, host.CreateSubmissionQueue(1, 16, submission, 1).Code);
        var queue = new HostQueue(host, 1, submission, 16, completion, 16, 1);
        ulong page = host.Page();
        for (int i = 0; i < 4; i++)
            queue.Place(Command.Io(2, 0, 8, page));
        host.Fabric.Faulting = (completion + 16, completion + 32);
        host.Fabric.ForgetAccesses();
        queue.Ring();
        host.Model.Advance();
        Assert.Equal(3u, host.Csts);
        Assert.Equal(2, host.Fabric.Accesses.Count(a => a.Address == page));
    }

    [Fact]
    public void A_reset_drops_held_asynchronous_event_requests()
    {
        using var host = new NvmeHost();
        host.Admin.Submit(new Command { Opcode = 0x0C });
        host.Model.Advance();
        host.Enable();
        host.Model.Write32(0, 0x1000 + 5 * 8, 1);
        host.Model.Advance();
        Assert.False(host.Admin.TryReap(out _));
    }

    [Fact]
    public void The_device_reads_what_it_writes_and_writes_what_it_reads_in_the_right_direction_only()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        ulong page = host.Page();
        host.Fabric.ForgetAccesses();
        queue.Run(Command.Io(1, 0, 8, page));
        Assert.Equal(Dma.DmaDirection.ToDevice, host.Fabric.Accesses.Single(a => a.Address == page).Direction);
        host.Fabric.ForgetAccesses();
        queue.Run(Command.Io(2, 0, 8, page));
        Assert.Equal(Dma.DmaDirection.FromDevice, host.Fabric.Accesses.Single(a => a.Address == page).Direction);
    }

    [Fact]
    public void Disabling_drops_outstanding_commands_without_a_completion()
    {
        using var host = new NvmeHost();
        HostQueue queue = host.CreateQueue();
        host.Model.Stall = true;
        queue.Submit(Command.Io(2, 0, 1, host.Page()));
        host.Model.Write32(0, 0x14, 0);
        host.Model.Stall = false;
        host.Fabric.ForgetAccesses();
        host.Model.Advance();
        Assert.Empty(host.Fabric.Accesses);
        Assert.False(queue.TryReap(out _, ring: false));
    }

    [Fact]
    public void Resets_under_load_leave_a_working_controller_each_time()
    {
        using var host = new NvmeHost(new NvmeModelOptions { SizeBytes = 1 << 20, OwnThread = true });
        host.Fabric.Recording = false;
        ulong page = host.Page();
        for (int turn = 0; turn < 25; turn++)
        {
            HostQueue queue = host.CreateQueue(entries: 32);
            for (int i = 0; i < 31; i++)
                queue.Submit(Command.Io(2, 0, 8, page));
            if (turn % 2 == 0)
                host.Model.Reset();
            else
                host.Model.Write32(0, 0x14, 0);
            Assert.Equal(0u, host.Csts);
            host.Enable();
        }

        Assert.Equal(0, host.CreateQueue().Run(Command.Io(2, 0, 8, page)).Code);
        Assert.Empty(host.Model.Violations);
    }
}
