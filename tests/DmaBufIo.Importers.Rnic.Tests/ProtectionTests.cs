using DmaBufIo.Errors;
using DmaBufIo.Importers.Rnic.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rdma;

namespace DmaBufIo.Importers.Rnic.Tests;

/// <summary>Keys, ranges and rights are the card's to check, before any DMA: what is wrong ends with verbs' status, touches nothing, and is never the IOMMU's to find.</summary>
public sealed class ProtectionTests
{
    private const int Size = 64 << 10;
    private const RdmaAccess All = RdmaAccess.LocalWrite | RdmaAccess.RemoteRead | RdmaAccess.RemoteWrite;

    public static TheoryData<string, long, long> WrongRanges => new()
    {
        { "one byte too long", 0, Size + 1 },
        { "one byte too far", 1, Size },
        { "begins behind the end", Size + 1, 0 },
        { "negative offset", -1, 1 },
        { "wraps around", long.MaxValue - 3, 100 },
        { "wraps around from below", -50, 100 },
        { "the largest length", 1, long.MaxValue },
    };

    [Theory]
    [MemberData(nameof(WrongRanges))]
    public void A_local_range_that_leaves_its_region_is_a_local_protection_error(string what, long offset, long length)
    {
        foreach (RdmaOpcode opcode in new[] { RdmaOpcode.Send, RdmaOpcode.RdmaWrite, RdmaOpcode.RdmaRead })
            AssertFails(s => s.Request(opcode) with { LocalOffset = offset, Length = length }, RdmaStatus.LocalProtectionError, $"{what}, {opcode}");
    }

    [Theory]
    [MemberData(nameof(WrongRanges))]
    public void A_remote_range_that_leaves_its_region_is_a_remote_access_error(string what, long offset, long length)
    {
        foreach (RdmaOpcode opcode in new[] { RdmaOpcode.RdmaWrite, RdmaOpcode.RdmaRead })
        {
            // The local region is larger, so that it is the remote range that is wrong.
            if (length <= 2 * Size)
                AssertFails(s => s.Request(opcode) with { RemoteOffset = offset, Length = length }, RdmaStatus.RemoteAccessError, $"{what}, {opcode}", nearSize: 2 * Size);
        }
    }

    [Theory]
    [InlineData((RdmaOpcode)77)]
    [InlineData((RdmaOpcode)(-1))]
    [InlineData((RdmaOpcode)4)]
    [InlineData(RdmaOpcode.Receive)]
    public void What_is_no_send_side_request_is_not_taken_in_any_mode_of_the_IOMMU(RdmaOpcode opcode)
    {
        using var rig = new Rig(mode: IommuMode.Passthrough);
        (RdmaQueuePair left, _) = rig.Connect();
        MovingExporter near = rig.Buffer("near", Size);
        RdmaMemoryRegion region = rig.Register(rig.Left, near, RdmaAccess.None);
        Assert.Equal(Errno.EINVAL, left.PostSend(new RdmaWorkRequest(1, opcode, region.LocalKey, 0, 1000, region.RemoteKey, 0)));
        Rig.AssertNothing(left.SendCompletions);
        Assert.Equal(0, rig.Iommu.StaleAccesses);
    }

    [Fact]
    public void Rights_that_do_not_exist_are_refused()
    {
        using var rig = new Rig();
        MovingExporter near = rig.Buffer("near", Size);
        Assert.Equal(Errno.EINVAL, Assert.Throws<DmaBufIoException>(() => rig.Left.RegisterMemory(near.Buffer, (RdmaAccess)64)).Errno);
        Assert.Equal(1, near.Buffer.References);
    }

    [Fact]
    public void A_local_key_that_names_no_region_of_the_card_is_a_local_protection_error()
    {
        foreach (RdmaOpcode opcode in new[] { RdmaOpcode.Send, RdmaOpcode.RdmaWrite, RdmaOpcode.RdmaRead })
        {
            AssertFails(s => s.Request(opcode) with { LocalKey = 0 }, RdmaStatus.LocalProtectionError, $"{opcode}: key 0");
            AssertFails(s => s.Request(opcode) with { LocalKey = s.Near.LocalKey + 1 }, RdmaStatus.LocalProtectionError, $"{opcode}: another generation");
            AssertFails(s => s.Request(opcode) with { LocalKey = s.Near.RemoteKey }, RdmaStatus.LocalProtectionError, $"{opcode}: the remote key");
            AssertFails(s => s.Request(opcode) with { LocalKey = uint.MaxValue }, RdmaStatus.LocalProtectionError, $"{opcode}: beyond the table");
        }
    }

    [Fact]
    public void A_remote_key_that_names_no_region_of_the_peers_card_is_a_remote_access_error()
    {
        foreach (RdmaOpcode opcode in new[] { RdmaOpcode.RdmaWrite, RdmaOpcode.RdmaRead })
        {
            AssertFails(s => s.Request(opcode) with { RemoteKey = 0 }, RdmaStatus.RemoteAccessError, $"{opcode}: key 0");
            AssertFails(s => s.Request(opcode) with { RemoteKey = s.Far.RemoteKey + 1 }, RdmaStatus.RemoteAccessError, $"{opcode}: another generation");
            AssertFails(s => s.Request(opcode) with { RemoteKey = s.Far.LocalKey }, RdmaStatus.RemoteAccessError, $"{opcode}: the local key");
            AssertFails(s => s.Request(opcode) with { RemoteKey = uint.MaxValue }, RdmaStatus.RemoteAccessError, $"{opcode}: beyond the table");
        }
    }

    [Theory]
    [InlineData(RdmaOpcode.RdmaWrite, RdmaAccess.LocalWrite | RdmaAccess.RemoteRead)]
    [InlineData(RdmaOpcode.RdmaRead, RdmaAccess.LocalWrite | RdmaAccess.RemoteWrite)]
    public void A_remote_region_without_the_right_is_a_remote_access_error(RdmaOpcode opcode, RdmaAccess access) =>
        AssertFails(s => s.Request(opcode), RdmaStatus.RemoteAccessError, $"{opcode} with {access}", farAccess: access);

    [Fact]
    public void Answers_of_an_RDMA_read_need_local_write() =>
        AssertFails(s => s.Request(RdmaOpcode.RdmaRead), RdmaStatus.LocalProtectionError, "no local write", nearAccess: RdmaAccess.RemoteRead);

    [Theory]
    [InlineData("no local write")]
    [InlineData("wrong key")]
    [InlineData("wrong range")]
    public void A_receive_that_is_wrong_is_a_local_protection_error_there_and_a_remote_operation_error_here(string what)
    {
        using var rig = new Rig();
        var stage = new Scene(rig, RdmaAccess.None, what == "no local write" ? RdmaAccess.RemoteRead : All, Size);
        var receive = RdmaWorkRequest.Receive(7, stage.Far, 0, Size);
        receive = what switch { "wrong key" => receive with { LocalKey = 77 }, "wrong range" => receive with { LocalOffset = 1 }, _ => receive };
        stage.Right.PostReceive(receive);
        stage.Left.PostSend(stage.Request(RdmaOpcode.Send));
        Assert.Equal((7UL, RdmaStatus.LocalProtectionError), Short(Rig.Next(stage.Right.ReceiveCompletions)));
        Assert.Equal((1UL, RdmaStatus.RemoteOperationError), Short(Rig.Next(stage.Left.SendCompletions)));
        stage.AssertUntouched(what);
    }

    [Fact]
    public void Remote_write_without_local_write_is_refused()
    {
        using var rig = new Rig();
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => rig.Left.RegisterMemory(rig.Buffer("b", 4096).Buffer, RdmaAccess.RemoteWrite));
        Assert.Equal(Errno.EINVAL, refused.Errno);
    }

    [Fact]
    public void A_stale_key_is_found_out_also_when_its_place_is_in_use_again()
    {
        using var rig = new Rig();
        MovingExporter buffer = rig.Buffer("b", 4096);
        var stale = new HashSet<uint>();
        for (int i = 0; i < 200; i++)
        {
            RdmaMemoryRegion region = rig.Left.RegisterMemory(buffer.Buffer, All);
            Assert.True(stale.Add(region.LocalKey) && stale.Add(region.RemoteKey), $"key 0x{region.LocalKey:x} comes again");
            region.Deregister(Rig.Token);
            region.Deregister(Rig.Token);
            Assert.True(region.IsDeregistered);
        }

        RdmaMemoryRegion live = rig.Register(rig.Left, buffer, All);
        uint before = Assert.Single(stale, k => k >> 8 == live.LocalKey >> 8 && ((live.LocalKey - k) & 0xFF) == 1);
        AssertFails(s => s.Request(RdmaOpcode.Send) with { LocalKey = before }, RdmaStatus.LocalProtectionError, "stale", existing: (rig, live));
        Assert.All(stale, k => Assert.Null(rig.Left.Keys.FindRemote(k) ?? rig.Left.Keys.FindLocal(k)));
    }

    private static (ulong Id, RdmaStatus Status) Short(RdmaCompletion completion) => (completion.Id, completion.Status);

    /// <summary>Posts the wrong request and a right one behind it.</summary>
    private static void AssertFails(
        Func<Scene, RdmaWorkRequest> wrong, RdmaStatus status, string what, RdmaAccess nearAccess = All, RdmaAccess farAccess = All, int nearSize = Size, (Rig Rig, RdmaMemoryRegion Near)? existing = null)
    {
        Rig rig = existing?.Rig ?? new Rig();
        try
        {
            var scene = new Scene(rig, nearAccess, farAccess, nearSize, existing?.Near);
            scene.Right.PostReceive(RdmaWorkRequest.Receive(7, scene.Far, 0, Size));
            Assert.Equal(Errno.Ok, scene.Left.PostSend([wrong(scene), scene.Request(RdmaOpcode.Send) with { Id = 2 }], out _));
            Assert.Equal((1UL, status), Short(Rig.Next(scene.Left.SendCompletions)));
            Assert.Equal((2UL, RdmaStatus.WorkRequestFlushed), Short(Rig.Next(scene.Left.SendCompletions)));
            Assert.Equal((7UL, RdmaStatus.WorkRequestFlushed), Short(Rig.Next(scene.Right.ReceiveCompletions)));
            Assert.Equal((Errno.EIO, Errno.ECONNRESET), (scene.Left.Reason, scene.Right.Reason));
            scene.AssertUntouched(what);
        }
        finally
        {
            if (existing is null)
                rig.Dispose();
        }
    }

    /// <summary>A connection with a region at each end.</summary>
    private sealed class Scene
    {
        private readonly Rig _rig;
        private readonly MovingExporter _far;
        private readonly IommuCounters _before;

        internal Scene(Rig rig, RdmaAccess nearAccess, RdmaAccess farAccess, int nearSize, RdmaMemoryRegion? near = null)
        {
            _rig = rig;
            (Left, Right) = rig.Connect();
            _far = rig.Buffer("far", Size);
            _far.Region.Span(0, Size).Fill(0x5A);
            Near = near ?? rig.Register(rig.Left, rig.Buffer("near", nearSize), nearAccess);
            Far = rig.Register(rig.Right, _far, farAccess);
            _before = rig.Iommu.Counters;
        }

        internal RdmaQueuePair Left { get; }

        internal RdmaQueuePair Right { get; }

        internal RdmaMemoryRegion Near { get; }

        internal RdmaMemoryRegion Far { get; }

        internal RdmaWorkRequest Request(RdmaOpcode opcode) => new(1, opcode, Near.LocalKey, 0, 4096, Far.RemoteKey, 0);

        internal void AssertUntouched(string what)
        {
            IommuCounters since = _rig.Iommu.Counters.Since(_before);
            Assert.True(since is { BytesFromMemory: 0, BytesToMemory: 0 }, $"{what}: {since.BytesFromMemory} bytes were read and {since.BytesToMemory} written");
            Assert.Equal(-1, _far.Region.Span(0, Size).IndexOfAnyExcept((byte)0x5A));
        }
    }
}
