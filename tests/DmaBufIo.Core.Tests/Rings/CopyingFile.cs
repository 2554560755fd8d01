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

/// <summary>A file that takes registrations, but whose read and write operations copy by CPU: they never opted in (R3).</summary>
internal sealed class CopyingFile(PuppetBlockDevice device) : IoFile("copying", OpenFlags.Direct)
{
    public override long Size => 4096;

    public override FileQueue OpenQueue(IoContext context, BioPool bios, int depth) => new Queue();

    protected override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => device.CreateToken(buffer, direction);

    private sealed class Queue : FileQueue
    {
        private readonly byte[] _contents = new byte[4096];

        public override Errno ReadIter(ref IoRequest request, ref IovIter iter) =>
            Count(ref request, iter.CopyTo(_contents, out int copied), copied);

        public override Errno WriteIter(ref IoRequest request, ref IovIter iter) =>
            Count(ref request, iter.CopyFrom(_contents, out int copied), copied);

        public override Errno Fsync(ref IoRequest request) => Errno.Ok;

        public override void Commit()
        {
        }

        public override int Poll(int max) => 0;

        public override void Dispose()
        {
        }

        private static Errno Count(ref IoRequest request, Errno status, int copied)
        {
            request.Transferred += copied;
            return status;
        }
    }
}
