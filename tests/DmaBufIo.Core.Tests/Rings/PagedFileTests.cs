using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Iov;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>Files whose device takes the references on maps itself: the ring holds none for them.</summary>
public sealed class PagedFileTests
{
    [Fact]
    public void T15_a_request_of_a_paged_file_holds_no_map_and_ends_with_what_its_bio_says()
    {
        using var stage = new Stage(register: false);
        var file = new PagedFile(stage.Device);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
        Assert.True(stage.Ring.TryReadFixed(file, 0, 8, 100, 0, 1));
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        Assert.Equal([(false, 8L, 100L)], file.Issued);
        Assert.Same(stage.Token, file.Token);
        Assert.Equal((0, BufferMapping.Premapped), (stage.Token.Maps, stage.Ring.MappingAt(0)));
        stage.Exporter.Move(TestContext.Current.CancellationToken); // on the ring's own thread, with the request in flight
        file.Ends.Enqueue((Errno.Ok, 60));
        Assert.Equal([new RingCompletion(1, Errno.Ok, 60)], stage.Reap(1));

        Assert.True(stage.Ring.TryWriteFixed(file, 0, 0, 8, 0, 2));
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        file.Ends.Enqueue((Errno.EIO, 0));
        Assert.Equal([new RingCompletion(2, Errno.EIO, 0)], stage.Reap(1));
        Close(stage, file);
    }

    [Fact]
    public void T16_a_request_that_a_paged_file_sends_back_is_issued_again_with_its_range()
    {
        using var stage = new Stage(register: false);
        var file = new PagedFile(stage.Device) { Room = 1 };
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file });
        for (int i = 0; i < 3; i++)
            Assert.True(stage.Ring.TryWriteFixed(file, 0, i * 100, 10 + i, 0, (ulong)i));
        stage.Ring.Submit(TestContext.Current.CancellationToken);
        for (int i = 0; i < 3; i++)
        {
            file.Ends.Enqueue((Errno.Ok, 10 + i));
            Assert.Equal([new RingCompletion((ulong)i, Errno.Ok, 10 + i)], stage.Reap(1));
        }

        Assert.Equal([(true, 0, 10), (true, 100, 11), (true, 200, 12)], file.Issued);
        Close(stage, file);
    }

    [Fact]
    public void R2_R3_T1_the_ring_checks_a_paged_files_requests_as_any_other()
    {
        using var stage = new Stage(register: false);
        var file = new PagedFile(stage.Device);
        stage.Ring.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = file, Direction = DmaDirection.ToDevice });
        Assert.Equal(Errno.EFAULT, Do(stage, r => r.TryWriteFixed(file, 0, Stage.BufferSize - 4, 8, 0, 1)));
        Assert.Equal(Errno.EFAULT, Do(stage, r => r.TryWriteFixed(file, 0, long.MaxValue, 8, 0, 1)));
        Assert.Equal(Errno.EBADF, Do(stage, r => r.TryWriteFixed(stage.File, 0, 0, 512, 0, 1)));
        Assert.Equal(Errno.EACCES, Do(stage, r => r.TryReadFixed(file, 0, 0, 8, 0, 1)));
        Assert.Equal(Errno.EOPNOTSUPP, Do(stage, r => r.TryWriteFixedVector(file, 0, new[] { new BufferRange(0, 8) }, 0, 1)));
        Assert.Equal(Errno.Ok, Do(stage, r => r.TryWriteFixed(file, 0, 0, 0, 0, 1)));
        Assert.Empty(file.Issued);
        Close(stage, file);
    }

    private static Errno Do(Stage stage, Func<Ring, bool> prepare)
    {
        Assert.True(prepare(stage.Ring));
        return Assert.Single(stage.Run()).Status;
    }

    private static void Close(Stage stage, PagedFile file)
    {
        RemovedBuffer removed = stage.Ring.RemoveBuffer(0);
        Assert.Equal(Errno.Ok, removed.WaitReleased(TestContext.Current.CancellationToken));
        Assert.True(removed.IsReleased && removed.Token!.IsReleased);
        file.Put();
    }

    /// <summary>Ends requests in the order of issue, as a test says.</summary>
    private sealed class PagedFile(PuppetBlockDevice device) : IoFile("paged", OpenFlags.Direct)
    {
        public override long Size => 0;

        public override int BlockSize => 1;

        public override bool IsPaged => true;

        internal int Room { get; init; } = int.MaxValue;

        internal List<(bool IsWrite, long Offset, long Length)> Issued { get; } = [];

        internal Queue<(Errno Status, long Bytes)> Ends { get; } = new();

        internal DmaBufToken? Token { get; private set; }

        public override FileQueue OpenQueue(IoContext context, BioPool bios, int depth) => new Queue(this, bios);

        protected override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => device.CreateToken(buffer, direction);

        private sealed class Queue(PagedFile file, BioPool bios) : FileQueue
        {
            private readonly Queue<BioHandle> _flight = new();

            public override Errno IssuePaged(bool isWrite, DmaBufToken token, long offset, long length, ref IoRequest request)
            {
                if (_flight.Count >= file.Room || !bios.TryAllocateFlush(out BioHandle bio, request.BioOwner, request.Tag))
                    return Errno.EAGAIN;
                file.Token = token;
                file.Issued.Add((isWrite, offset, length));
                _flight.Enqueue(bio);
                request.Pending++;
                return Errno.Ok;
            }

            public override Errno ReadIter(ref IoRequest request, ref IovIter iter) => Errno.EOPNOTSUPP;

            public override Errno WriteIter(ref IoRequest request, ref IovIter iter) => Errno.EOPNOTSUPP;

            public override Errno Fsync(ref IoRequest request) => Errno.Ok;

            public override void Commit()
            {
            }

            public override int Poll(int max)
            {
                int count = 0;
                while (count < max && _flight.Count != 0 && file.Ends.TryDequeue(out (Errno Status, long Bytes) end))
                {
                    BioHandle bio = _flight.Dequeue();
                    bios[bio].Size = end.Bytes;
                    bios.End(bio, end.Status);
                    count++;
                }

                return count;
            }

            public override void Dispose()
            {
            }
        }
    }
}
