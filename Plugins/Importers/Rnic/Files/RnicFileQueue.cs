using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.Rnic.Queues;
using DmaBufIo.Iov;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Files;

/// <summary>The file's requests in one ring: a write is a send, a read a receive, each with one bio that waits for its completion.</summary>
internal sealed class RnicFileQueue(RnicFile file, RnicQueuePair pair, BioPool bios) : FileQueue
{
    private const int PollBatch = 32;

    private readonly Queue<(BioHandle Bio, long Sends)> _flushes = new();
    private long _sent;
    private long _acknowledged;
    private bool _sendsTouched;
    private bool _receivesTouched;

    /// <inheritdoc/>
    [HotPath]
    public override Errno IssuePaged(bool isWrite, DmaBufToken token, long offset, long length, ref IoRequest request)
    {
        // The flag is looked at for every request (B5).
        if (request.FileOffset != 0 || (file.Flags & OpenFlags.Direct) == 0)
            return Errno.EINVAL;
        if (pair.State == RdmaQueuePairState.Init)
            return Errno.ENOTCONN;
        if (!bios.TryAllocateFlush(out BioHandle bio, request.BioOwner, request.Tag))
            return Errno.EAGAIN;
        Errno status = pair.Post(new RdmaWorkRequest((ulong)bio.Index, isWrite ? RdmaOpcode.Send : RdmaOpcode.Receive, 0, offset, length), token);
        if (status != Errno.Ok)
        {
            bios.Release(bio);
            return Errno.EAGAIN;
        }

        if (isWrite)
        {
            _sent++;
            _sendsTouched = true;
        }
        else
        {
            _receivesTouched = true;
        }

        request.Pending++;
        return Errno.Ok;
    }

    /// <summary>Memory that is not registered with the card cannot be sent.</summary>
    public override Errno ReadIter(ref IoRequest request, ref IovIter iter) => Errno.EOPNOTSUPP;

    /// <summary>Memory that is not registered with the card cannot be sent.</summary>
    public override Errno WriteIter(ref IoRequest request, ref IovIter iter) => Errno.EOPNOTSUPP;

    /// <inheritdoc/>
    public override Errno Fsync(ref IoRequest request)
    {
        if (pair.State == RdmaQueuePairState.Init)
            return Errno.ENOTCONN;
        if (!bios.TryAllocateFlush(out BioHandle bio, request.BioOwner, request.Tag))
            return Errno.EAGAIN;
        request.Pending++;
        _flushes.Enqueue((bio, _sent));
        EndFlushes();
        return Errno.Ok;
    }

    /// <inheritdoc/>
    [HotPath]
    public override void Commit()
    {
        if (_sendsTouched)
            pair.RingSend();
        if (_receivesTouched)
            pair.RingReceive();
        _sendsTouched = false;
        _receivesTouched = false;
    }

    /// <inheritdoc/>
    [HotPath]
    public override int Poll(int max)
    {
        Span<RdmaCompletion> completions = stackalloc RdmaCompletion[PollBatch];
        int total = 0;
        while (total < max)
        {
            int count = pair.SendCompletions.Poll(completions[..Math.Min(PollBatch, max - total)]);
            foreach (ref readonly RdmaCompletion completion in completions[..count])
            {
                var bio = new BioHandle((int)completion.Id);
                if (completion.Opcode == RdmaOpcode.Send)
                    _acknowledged++;
                bios[bio].Size = completion.Length;
                bios.End(bio, completion.Status == RdmaStatus.Success ? Errno.Ok : ErrnoOf(completion.Status));
            }

            total += count;
            if (count < PollBatch)
                break;
        }

        if (_flushes.Count != 0)
            EndFlushes();
        return total;
    }

    /// <inheritdoc/>
    public override bool TryEnableInterrupts(Action handler) => pair.SendCompletions.TryEnableInterrupts(handler);

    /// <inheritdoc/>
    public override void Dispose()
    {
        pair.DisableInterrupts();
        file.QueueClosed();
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private Errno ErrnoOf(RdmaStatus status) => status switch
    {
        RdmaStatus.LocalLengthError or RdmaStatus.RemoteInvalidRequest => Errno.EMSGSIZE,
        RdmaStatus.RnrRetryExceeded => Errno.ETIMEDOUT,
        RdmaStatus.RetryExceeded => Errno.ECONNRESET,
        RdmaStatus.WorkRequestFlushed => pair.Reason,
        _ => Errno.EIO,
    };

    private void EndFlushes()
    {
        while (_flushes.TryPeek(out (BioHandle Bio, long Sends) flush) && flush.Sends <= _acknowledged)
        {
            _flushes.Dequeue();
            bios.End(flush.Bio, pair.Reason);
        }
    }
}
