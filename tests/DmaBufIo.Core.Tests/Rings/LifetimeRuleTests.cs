using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

public sealed class LifetimeRuleTests
{
    [Fact]
    public void R6_removing_with_requests_in_flight_returns_at_once_and_they_complete()
    {
        using var stage = new Stage();
        new Random(6).NextBytes(stage.Device.Store);
        stage.Device.Hold = true;
        for (int i = 0; i < 3; i++)
            stage.Read(512, i * 512, i * 512, (ulong)i);
        stage.Submit();
        DmaBufToken old = stage.Ring.RemoveBuffer(0).Token!;
        Assert.Equal((false, 3), (old.IsReleasing, stage.Device.Held));
        Assert.All(stage.Drain(), static c => Assert.Equal((Errno.Ok, 512L), (c.Status, c.Bytes)));
        Assert.Equal(Errno.Ok, old.WaitReleased(TestContext.Current.CancellationToken));
        Assert.True(stage.Exporter.Region.Span(0, 1536).SequenceEqual(stage.Device.Store[..1536]));
    }

    [Fact]
    public void R6_new_requests_on_an_emptied_slot_get_EFAULT_also_those_that_were_prepared_before()
    {
        using var stage = new Stage();
        stage.Device.Hold = true;
        stage.Read(512, 0, 0, 1);
        stage.Submit();
        stage.Read(512, 0, 0, 2);
        stage.Ring.RemoveBuffer(0);
        stage.Read(512, 0, 0, 3);
        stage.Submit();
        Assert.Equal([new RingCompletion(2, Errno.EFAULT, 0), new RingCompletion(3, Errno.EFAULT, 0)], stage.Reap(2));
        Assert.Equal([new RingCompletion(1, Errno.Ok, 512)], stage.Drain());
    }

    [Fact]
    public void R6_the_tag_of_a_registration_completes_last_after_all_of_its_requests()
    {
        using var stage = new Stage(register: false);
        Register(stage, tag: 900);
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 2;
        for (int i = 0; i < 5; i++)
            stage.Read(512, i * 512, i * 512, (ulong)i);
        stage.Submit(); // two are taken, three are parked: those hold no map, and count all the same
        stage.Ring.RemoveBuffer(0);
        Assert.Equal(0, stage.Ring.Reap(new RingCompletion[8]));
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal([0UL, 1, 2, 3, 4, 900], stage.Reap(6).Select(static c => c.UserData));
    }

    [Fact]
    public void R6_the_tag_waits_for_requests_that_have_ended_and_were_not_reaped()
    {
        using var stage = new Stage(register: false);
        Register(stage, tag: 900);
        stage.Read(512, 0, 0, 1);
        stage.Submit();
        stage.Ring.Context.ReapAsVisitor();
        stage.Ring.RemoveBuffer(0);
        Assert.Equal([1UL], stage.Reap(1).Select(static c => c.UserData));
        Assert.Equal([new RingCompletion(900, Errno.Ok, 0)], stage.Reap(1));
    }

    [Fact]
    public void R6_the_tag_of_a_registration_without_requests_completes_when_it_is_removed_or_replaced_and_only_once()
    {
        using var stage = new Stage(register: false);
        Register(stage, tag: 1);
        Assert.Equal(0, stage.Ring.Reap(new RingCompletion[4]));
        Register(stage, tag: 2);
        Register(stage, tag: 0);
        stage.Ring.RemoveBuffer(0);
        var completions = new RingCompletion[4];
        Assert.Equal(2, stage.Ring.Reap(completions));
        Assert.Equal([1UL, 2], completions.Take(2).Select(static c => c.UserData));
        Assert.Equal(0, stage.Ring.Reap(completions));
    }

    [Fact]
    public void R6_replacing_with_requests_in_flight_returns_at_once_and_each_request_keeps_the_registration_it_began_with()
    {
        using var stage = new Stage(register: false);
        var second = MovingExporter.Create("b1", 65536);
        Register(stage, tag: 900);
        new Random(6).NextBytes(stage.Device.Store);
        stage.Device.Hold = true;
        stage.Read(512, 0, 0, 1);
        stage.Submit();
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = second.Buffer, File = stage.File });
        second.Buffer.Put();
        stage.Read(512, 0, 4096, 2);
        stage.Submit();
        stage.Device.Hold = false;
        stage.Device.Finish();
        Assert.Equal([1UL, 2, 900], stage.Reap(3).Select(static c => c.UserData));
        Assert.True(stage.Exporter.Region.Span(0, 512).SequenceEqual(stage.Device.Store[..512]));
        Assert.True(second.Region.Span(0, 512).SequenceEqual(stage.Device.Store.Slice(4096, 512)));
    }

    [Fact]
    public void R6_a_replacement_that_fails_leaves_the_old_one_working()
    {
        using var stage = new Stage(register: false);
        Register(stage, tag: 900);
        DmaBufToken old = stage.Token;
        stage.Device.Hold = true;
        stage.Read(512, 0, 0, 1);
        stage.Submit();
        BufferRegistration good = new() { Buffer = stage.Exporter.Buffer, File = stage.File };
        Assert.Equal(Errno.EINVAL, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(0, good with { Reserved = 1 })));
        Assert.Equal(Errno.EBADF, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(0, good with { Buffer = null })));
        stage.Device.FailSetup = static () => new DmaBufIoException(Errno.ENOMEM, "test", "setup", "no memory", "Try later");
        Assert.Equal(Errno.ENOMEM, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(0, good)));
        stage.Device.FailSetup = null;
        stage.Device.TakesTokens = false;
        Assert.Equal(Errno.EOPNOTSUPP, StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(0, good)));
        Assert.Same(old, stage.Token);
        Assert.Equal((false, 1), (old.IsReleasing, stage.Device.LiveTokens));
        stage.Read(512, 512, 512, 2);
        stage.Submit();
        Assert.Equal([1UL, 2], stage.Drain().Select(static c => c.UserData));
        Assert.Equal(0, stage.Ring.Reap(new RingCompletion[1]));
    }

    [Fact]
    public void R6_a_registration_whose_files_queue_cannot_be_opened_leaves_the_old_one_working_and_nothing_behind()
    {
        using var stage = new Stage();
        DmaBufToken old = stage.Token;
        var file = new QueuelessFile(stage.Device);
        Assert.Equal(
            Errno.EBUSY,
            StageVerbs.Refusal(() => stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file })));
        Assert.Same(old, stage.Token);
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, 0, 0));
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => file.References == 1 && stage.Device.LiveTokens == 1));
        file.Put();
    }

    [Fact]
    public void R6_closing_the_buffer_with_requests_in_flight_lets_them_complete_and_frees_it_after_its_registration()
    {
        using var stage = new Stage();
        var exporter = MovingExporter.Create("b1", 65536);
        stage.Ring.RegisterBuffer(1, new BufferRegistration { Buffer = exporter.Buffer, File = stage.File });
        stage.Device.Hold = true;
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, 1));
        stage.Submit();
        exporter.Buffer.Put();
        Assert.Equal(1, exporter.Buffer.References);
        Assert.Equal([new RingCompletion(1, Errno.Ok, 4096)], stage.Drain());
        Assert.True(stage.Ring.TryReadFixed(stage.File, 1, 0, 4096, 0, 2));
        Assert.Equal(Errno.Ok, Assert.Single(stage.Run()).Status);
        DmaBufToken token = stage.Ring.RemoveBuffer(1).Token!;
        Assert.Equal(Errno.Ok, token.WaitReleased(TestContext.Current.CancellationToken));
        Assert.Equal(0, exporter.Buffer.References);
        Assert.Throws<ObjectDisposedException>(() => exporter.Region.Fill(0));
    }

    [Fact]
    public void R6_closing_the_file_with_requests_in_flight_lets_them_complete_and_closes_it_with_the_ring()
    {
        var stage = new Stage();
        stage.Device.Hold = true;
        stage.Read(4096, 0, 0, 1);
        stage.Submit();
        stage.File.Put();
        Assert.False(stage.File.IsClosed);
        Assert.Equal([new RingCompletion(1, Errno.Ok, 4096)], stage.Drain());
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), stage.ReadOnce(512, 0, 0));
        stage.Dispose();
        Assert.True(stage.File.IsClosed);
    }

    [Fact]
    public async Task R6_closing_the_ring_with_requests_in_flight_lets_them_complete_and_leaks_nothing()
    {
        using var stage = new Stage(register: false);
        var ring = new Ring(new RingOptions { Name = "closing", Entries = 8 });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File, Tag = 900 });
        new Random(6).NextBytes(stage.Device.Store);
        stage.Device.Hold = true;
        stage.Device.QueueDepth = 2;
        for (int i = 0; i < 3; i++)
            Assert.True(ring.TryReadFixed(stage.File, 0, i * 512, 512, i * 512, (ulong)i));
        ring.Submit(TestContext.Current.CancellationToken);
        Assert.True(ring.TryReadFixed(stage.File, 0, 1536, 512, 1536, 3)); // prepared, not submitted
        DmaBufToken token = ring.TokenAt(0)!;
        Task closing = Task.Factory.StartNew(
            ring.Dispose, TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => stage.Device.Finish() >= 0 && closing.IsCompleted));
        await closing;
        Assert.Equal(Errno.Ok, token.WaitReleased(TestContext.Current.CancellationToken));
        Assert.True(stage.Exporter.Region.Span(0, 2048).SequenceEqual(stage.Device.Store[..2048]));
        Assert.Equal(
            (1, 1, 0, 0), (stage.File.References, stage.Exporter.Buffer.References, stage.Device.LiveTokens, stage.Device.LiveMaps));
        Assert.Throws<ObjectDisposedException>(() => ring.TryReadFixed(stage.File, 0, 0, 512, 0, 1));
    }

    [Fact]
    public void R6_registering_and_removing_under_load_leaks_no_token_map_or_reference()
    {
        using var stage = new Stage(register: false);
        var random = new Random(66);
        stage.Device.Hold = true;
        var posted = new List<ulong>();
        var completions = new RingCompletion[64];
        ulong tags = 0;
        ulong requests = 0;
        int alive = 0;
        for (int step = 0; step < 2000; step++)
        {
            switch (random.Next(5))
            {
                case 0 when alive < 8:
                    Register(stage, 1_000_000 + ++tags);
                    alive++;
                    break;
                case 1 when stage.Ring.TokenAt(0) is not null:
                    stage.Ring.RemoveBuffer(0);
                    break;
                case 2 when stage.Ring.Room > 0 && stage.Ring.TokenAt(0) is not null:
                    stage.Read(512, 0, 0, ++requests);
                    stage.Submit();
                    break;
                case 3:
                    stage.Device.Finish(random.Next(4));
                    break;
                default:
                    int reaped = stage.Ring.Reap(completions);
                    posted.AddRange(completions.Take(reaped).Select(static c => c.UserData));
                    alive -= completions.Take(reaped).Count(static c => c.UserData > 1_000_000);
                    break;
            }
        }

        if (stage.Ring.TokenAt(0) is not null)
            stage.Ring.RemoveBuffer(0);
        stage.Device.Hold = false;
        stage.Device.Finish();
        posted.AddRange(stage.Reap((int)(requests + tags) - posted.Count).Select(static c => c.UserData));
        Assert.Equal((int)(requests + tags), posted.Distinct().Count());
        Assert.Equal(Errno.Ok, Stage.WaitFor(() => stage.Device.LiveTokens == 0 && stage.Exporter.Buffer.References == 1));
        Assert.Equal(0, stage.Device.LiveMaps);
    }

    private static void Register(Stage stage, ulong tag) =>
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File, Tag = tag });

    private sealed class QueuelessFile(DmaBufIo.Models.Puppets.PuppetBlockDevice device) : IoFile("no queue", OpenFlags.Direct)
    {
        public override long Size => 0;

        public override FileQueue OpenQueue(DmaBufIo.Io.IoContext context, DmaBufIo.Block.BioPool bios, int depth) =>
            throw new DmaBufIoException(Errno.EBUSY, "test", Name, "no queue is left", "Close another");

        protected override TokenDriver? CreateToken(DmaBuf buffer, DmaBufIo.Dma.DmaDirection direction) =>
            device.CreateToken(buffer, direction);
    }
}
