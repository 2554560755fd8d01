using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Striped;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>One token and one map over several members.</summary>
public sealed class CompositeTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void T2_a_member_that_cannot_take_the_buffer_fails_the_creation_as_a_whole_and_the_message_says_which_and_why()
    {
        using var rig = new PuppetRig(3);
        BlockDevice set = Stripes(rig);
        rig.Members[1].FailSetup = static () => new DmaBufIoException(Errno.EOPNOTSUPP, "Test", "puppet1", "segments are too small", "Use larger ones", rule: "N9");
        var exporter = Models.Exporters.MovingExporter.Create("buffer", 4096);
        var file = new Files.BlockDeviceFile(set);
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => file.OpenToken(exporter.Buffer, DmaDirection.ToDevice));
        Assert.Equal(Errno.EOPNOTSUPP, refused.Errno);
        foreach (string part in new[] { "member 1 (puppet1)", "segments are too small", "the 1 members before it were undone", "buffer" })
            Assert.Contains(part, refused.Message, StringComparison.Ordinal);
        Assert.All(rig.Members, static m => Assert.Equal(0, m.LiveTokens));
        Assert.Equal((1, 0), (exporter.Buffer.References, exporter.Buffer.Attachments));
        rig.Members[1].FailSetup = null;
        rig.Members[2].TakesTokens = false;
        refused = Assert.Throws<DmaBufIoException>(() => file.OpenToken(exporter.Buffer, DmaDirection.ToDevice));
        Assert.Contains("member 2 (puppet2)", refused.Message, StringComparison.Ordinal);
        Assert.All(rig.Members, static m => Assert.Equal(0, m.LiveTokens));
        exporter.Buffer.Put();
        file.Put();
    }

    [Fact]
    public void T12_a_composite_map_is_made_over_all_members_under_one_hold_of_the_lock_or_not_at_all()
    {
        using var rig = new PuppetRig(3);
        using (var ring = new SetRing(Stripes(rig), 1 << 16, 8))
        {
            var held = new List<bool>();
            foreach (Models.Puppets.PuppetBlockDevice member in rig.Members)
                member.InMap = () => held.Add(ring.Exporter.Buffer.Reservation.IsHeldByCurrentThread);
            rig.Members[2].FailMap = static () => new DmaBufIoException(Errno.ENOMEM, "Test", "puppet2", "no addresses are left", "Unmap some");
            Assert.Equal(Errno.ENOMEM, ring.Read(0, 4096, 0).Status);
            Assert.All(rig.Members, static m => Assert.Equal(0, m.LiveMaps));
            DmaBufIoException error = ring.Ring.TokenAt(0)!.LastMapError!;
            foreach (string part in new[] { "member 2 (puppet2)", "no addresses are left", "the 2 members before it were undone" })
                Assert.Contains(part, error.Message, StringComparison.Ordinal);
            rig.Members[2].FailMap = null;
            Assert.Equal(Errno.Ok, ring.Read(0, 4096, 0).Status);
            Assert.All(rig.Members, static m => Assert.Equal(1, m.LiveMaps));
            Assert.Equal(Enumerable.Repeat(true, 6), held);
        }
    }

    [Fact]
    public void T16_T17_an_invalidation_waits_until_the_last_part_on_the_last_member_has_ended_and_revokes_all()
    {
        using var rig = new PuppetRig(3);
        using (var ring = new SetRing(Stripes(rig), 1 << 16, 8))
        {
            foreach (Models.Puppets.PuppetBlockDevice member in rig.Members)
                member.Hold = true;
            Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 3 * 4096, 0, 1));
            ring.Ring.Submit(Token);
            Assert.Equal([1, 1, 1], rig.Members.Select(static m => m.Held));
            var mover = new Thread(() => ring.Exporter.Move(CancellationToken.None));
            mover.Start();
            while (ring.Ring.TokenAt(0)!.LiveGeneration is not null)
                Thread.Yield();
            rig.Members[0].Finish();
            rig.Members[2].Finish();
            Assert.Equal((0L, 1), (ring.Exporter.Moves, rig.Members[1].Held));
            rig.Members[1].Finish();
            mover.Join();
            Assert.Equal(1, ring.Exporter.Moves);
            foreach (Models.Puppets.PuppetBlockDevice member in rig.Members)
                member.Hold = false;
            Assert.Empty(ring.Run());
            Assert.Equal(1, ring.Ring.Reap(new RingCompletion[1], 1, Token));
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void T12_an_exporter_that_moves_the_buffer_while_it_is_mapped_for_one_member_leaves_no_member_with_the_old_place(int moves)
    {
        using var rig = new PuppetRig(3);
        var exporter = new FickleExporter(1 << 16) { MovesFor = rig.Members[1].Device, Moves = moves };
        var file = new Files.BlockDeviceFile(Stripes(rig));
        using (var ring = new Ring(new RingOptions { Name = "test" }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = exporter.Buffer, File = file });
            exporter.Region.Span(0, 3 * 4096).Fill(8);
            Assert.True(ring.TryWriteFixed(file, 0, 0, 3 * 4096, 0, 1));
            ring.Submit(Token);
            var completions = new RingCompletion[1];
            Assert.Equal(1, ring.Reap(completions, 1, Token));
            Assert.Equal(new RingCompletion(1, Errno.Ok, 3 * 4096), completions[0]);
            Assert.All(rig.Members, static m => Assert.Equal((1, 8), (m.LiveMaps, m.Store[0])));
            RemovedBuffer removed = ring.RemoveBuffer(0);
            ring.Dispose();
            Assert.Equal(Errno.Ok, removed.WaitReleased(Token));
        }

        exporter.Buffer.Put();
        file.Put();
    }

    [Fact]
    public void T12_an_exporter_that_moves_it_each_time_is_refused_and_nothing_stays_mapped()
    {
        using var rig = new PuppetRig(3);
        var exporter = new FickleExporter(1 << 16) { MovesFor = rig.Members[2].Device, Moves = int.MaxValue };
        var file = new Files.BlockDeviceFile(Stripes(rig));
        using (var ring = new Ring(new RingOptions { Name = "test" }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = exporter.Buffer, File = file });
            Assert.True(ring.TryWriteFixed(file, 0, 0, 4096, 0, 1));
            ring.Submit(Token);
            var completions = new RingCompletion[1];
            Assert.Equal(1, ring.Reap(completions, 1, Token));
            Assert.Equal(Errno.EIO, completions[0].Status);
            Assert.Contains("moved each time it was mapped", ring.TokenAt(0)!.LastMapError!.Message, StringComparison.Ordinal);
            Assert.All(rig.Members, static m => Assert.Equal(0, m.LiveMaps));
            RemovedBuffer removed = ring.RemoveBuffer(0);
            ring.Dispose();
            Assert.Equal(Errno.Ok, removed.WaitReleased(Token));
        }

        exporter.Buffer.Put();
        file.Put();
    }

    [Fact]
    public void B3_parts_are_cut_at_chunks_and_members_limits_and_hold_the_right_bytes()
    {
        using var rig = new PuppetRig(2, new QueueLimits(512) { MaxBytes = 2048 });
        using (var ring = new SetRing(Stripes(rig), 1 << 16, 8))
        {
            var parts = new List<(int Member, Bio Bio)>();
            for (int i = 0; i < 2; i++)
            {
                int member = i;
                rig.Members[i].OnSubmit = bio => parts.Add((member, bio));
            }

            // The request is two bios: a set takes 4 KiB at once, as much as two members do.
            Assert.Equal(Errno.Ok, ring.Write(1024, 6144, 3072).Status);
            Assert.Equal(
                [(0, 3072L, 1024L, 1024L), (1, 0L, 2048L, 2048L), (1, 2048L, 4096L, 1024L), (1, 3072L, 5120L, 1024L), (0, 4096L, 6144L, 1024L)],
                parts.Select(static p => (p.Member, p.Bio.Sector << 9, p.Bio.Offset, p.Bio.Size)).OrderBy(static p => p.Item3));
        }
    }

    [Fact]
    public void The_first_error_of_a_part_is_the_requests_and_names_the_member()
    {
        using var rig = new PuppetRig(3);
        var faults = new List<MemberFault>();
        void OnFault(MemberFault fault)
        {
            lock (faults)
                faults.Add(fault);
        }

        DmaBufIoDiagnostics.MemberFaulted += OnFault;
        try
        {
            BlockDevice set = Stripes(rig);
            using var ring = new SetRing(set, 1 << 16, 8);
            rig.Members[1].FailWith = Errno.ETIMEDOUT;
            Assert.Equal(Errno.ETIMEDOUT, ring.Read(0, 3 * 4096, 0).Status);
            Assert.Equal(Errno.Ok, ring.Read(0, 4096, 0).Status);
            MemberFault[] seen;
            lock (faults)
                seen = [.. faults]; // other tests have faults too
            MemberFault fault = Assert.Single(seen, f => f.Set == set.Name);
            Assert.Equal(("puppet1", Errno.ETIMEDOUT, 0L, 4096L), (fault.Member, fault.Status, fault.Offset, fault.Length));
        }
        finally
        {
            DmaBufIoDiagnostics.MemberFaulted -= OnFault;
        }
    }

    [Fact]
    public void T16_a_request_for_which_no_member_has_room_gives_its_reference_back_and_comes_again()
    {
        using var rig = new PuppetRig(2);
        using (var ring = new SetRing(Stripes(rig), 1 << 16, 8))
        {
            foreach (Models.Puppets.PuppetBlockDevice member in rig.Members)
                member.QueueDepth = 0;
            Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 8192, 0, 1));
            ring.Ring.Submit(Token);
            ring.Exporter.Move(Token); // nobody holds a reference
            foreach (Models.Puppets.PuppetBlockDevice member in rig.Members)
                member.QueueDepth = int.MaxValue;
            var completions = new RingCompletion[1];
            Assert.Equal(1, ring.Ring.Reap(completions, 1, Token));
            Assert.Equal(new RingCompletion(1, Errno.Ok, 8192), completions[0]);
        }
    }

    [Fact]
    public void A_request_that_has_begun_waits_for_room_on_the_members_that_have_none()
    {
        using var rig = new PuppetRig(2);
        using (var ring = new SetRing(Stripes(rig), 1 << 16, 8))
        {
            rig.Members[1].QueueDepth = 0;
            Assert.True(ring.Ring.TryWriteFixed(ring.File, 0, 0, 8192, 0, 1));
            ring.Ring.Submit(Token);
            var completions = new RingCompletion[1];
            Assert.Equal(0, ring.Ring.Reap(completions));
            rig.Members[1].QueueDepth = int.MaxValue;
            Assert.Equal(1, ring.Ring.Reap(completions, 1, Token));
            Assert.Equal(new RingCompletion(1, Errno.Ok, 8192), completions[0]);
        }
    }

    private static BlockDevice Stripes(PuppetRig rig) => new Raid0Factory().Create(SetRig.Expression("raid0", "4K", rig.Members.Length), rig.Members);
}
