using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Iov;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>A block device's file that throws where it is told to.</summary>
internal sealed class FaultingFile(PuppetBlockDevice device) : IoFile("faulting", OpenFlags.Direct)
{
    private readonly BlockDeviceFile _below = new(device);

    public override long Size => _below.Size;

    /// <summary>The next batch issues so many requests and throws; negative: it does not.</summary>
    internal int ThrowAfter { get; set; } = -1;

    /// <summary>So many looks throw.</summary>
    internal int ThrowingPolls;

    public override FileQueue OpenQueue(IoContext context, BioPool bios, int depth) =>
        new Queue(this, _below.OpenQueue(context, bios, depth));

    protected override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => device.CreateToken(buffer, direction);

    private sealed class Queue(FaultingFile file, FileQueue below) : FileQueue
    {
        public override Errno ReadIter(ref IoRequest request, ref IovIter iter) => below.ReadIter(ref request, ref iter);

        public override Errno WriteIter(ref IoRequest request, ref IovIter iter) => below.WriteIter(ref request, ref iter);

        public override int IssueRanges(bool isWrite, DmaMap map, Span<IoRequest> requests, ReadOnlySpan<int> tags)
        {
            if (file.ThrowAfter < 0)
                return 0;
            for (int i = 0; i < file.ThrowAfter; i++)
            {
                ref IoRequest request = ref requests[tags[i]];
                request.Iter = IovIter.ForMap(map, request.Iter.Offset, request.Iter.Count, request.Iter.Direction);
                Assert.Equal(Errno.Ok, below.ReadIter(ref request, ref request.Iter));
            }

            file.ThrowAfter = -1;
            throw new InvalidOperationException("as the test wants it");
        }

        public override Errno Fsync(ref IoRequest request) => below.Fsync(ref request);

        public override void Commit() => below.Commit();

        public override int Poll(int max) => Interlocked.Decrement(ref file.ThrowingPolls) >= 0
            ? throw new InvalidOperationException("as the test wants it")
            : below.Poll(max);

        public override void Dispose() => below.Dispose();
    }
}
