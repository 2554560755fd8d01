using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Sync;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>Registrations that are mapped per request (<see cref="BufferMapping.PerRequest"/>): the same way through the ring, with pages
/// in place of a map.</content>
public sealed partial class Ring
{
    private WorkQueue PutWorkers => _options.Tokens.Workers ?? TokenWorkers.Queue;

    private Registration RegisterPerRequest(int slot, BufferRegistration registration, IoFile file, DmaBuf buffer)
    {
        MemoryLayout memory = PagesOf(slot, registration, file, buffer);
        return new Registration(buffer, memory, registration.Direction, OpenFile(file), PutWorkers, registration.Tag);
    }

    /// <summary>The memory of a buffer that can be mapped per request.</summary>
    private MemoryLayout PagesOf(int slot, BufferRegistration registration, IoFile file, DmaBuf buffer)
    {
        file.CheckRegistration(registration.Direction);
        BufferBacking backing = buffer.Describe();
        if (backing.CanMove)
            throw NotPerRequest(slot, $"{buffer.Name} may move, and pages that are mapped for one request cannot be revoked");
        if (backing.Ranges.Count == 0)
            throw NotPerRequest(slot, $"{buffer.Name} is {backing.Kind} and its exporter names no memory that a device could be given");
        var memory = new MemoryLayout(backing.Ranges);
        if (memory.Length != buffer.Size)
            throw NotPerRequest(slot, $"the exporter of {buffer.Name} names {memory.Length} of its {buffer.Size} bytes");
        return memory;
    }

    /// <summary>
    /// There is no map and no reference: nothing is held while the request is parked, and the driver unmaps before it ends.
    /// </summary>
    private void IssuePerRequest(int tag, Registration registration)
    {
        if (registration.AnyToken is { } token)
        {
            IssuePaged(tag, registration, token);
            return;
        }

        ref RingRequest request = ref _requests[tag];
        MemoryLayout memory = registration.Memory!;

        // Nothing of it was issued: the iterator of a range stands at its start.
        ref IovIter iter = ref _ios[tag].Iter;
        iter = request.IsVector
            ? IovIter.ForMemoryRanges(memory, _ranges[tag], request.Direction)
            : IovIter.ForMemory(memory, iter.Offset, iter.Count, request.Direction);
        registration.RingFile.IsTouched = true;
        request.State = RequestState.Issued;
        Settle(tag, GiveToFile(tag));
    }

    /// <summary>The device takes the references itself, piece by piece: none is held here, however long the request waits for somebody else (T15).</summary>
    private void IssuePaged(int tag, Registration registration, DmaBufToken token)
    {
        ref RingRequest request = ref _requests[tag];
        ref IoRequest io = ref _ios[tag];
        bool isWrite = request.Direction == DmaDirection.ToDevice;
        registration.RingFile.IsTouched = true;
        request.State = RequestState.Issued;
        Errno status = request.IsVector
            ? Errno.EOPNOTSUPP
            : registration.RingFile.Queue.IssuePaged(isWrite, token, io.Iter.Offset, io.Iter.Count, ref io);

        // All of it or nothing; one that is sent back keeps its range.
        if (status != Errno.EAGAIN)
            io.Iter = default;
        Settle(tag, status);
    }

    private DmaBufIoException NotPerRequest(int slot, string problem) =>
        Refused(Errno.EOPNOTSUPP, slot, $"the buffer cannot be mapped per request: {problem}", "Register it premapped");
}
