using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>Registrations that are mapped per request (<see cref="BufferMapping.PerRequest"/>): the same way through the ring, with pages in place of a map.</content>
public sealed partial class Ring
{
    private Registration RegisterPerRequest(int slot, BufferRegistration registration, IoFile file, DmaBuf buffer)
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
        return new Registration(buffer, memory, registration.Direction, OpenFile(file), _options.Tokens.Workers ?? TokenWorkers.Queue, registration.Tag);
    }

    /// <summary>There is no map and no reference: nothing is held while the request is parked, and the driver unmaps before it ends.</summary>
    private void IssuePerRequest(int tag, ref RingRequest request, MemoryLayout memory)
    {
        request.Iter = request.IsVector
            ? IovIter.ForMemoryRanges(memory, request.Ranges, request.Direction)
            : IovIter.ForMemory(memory, request.BufferOffset, request.Length, request.Direction);
        Settle(tag, ref request, GiveToFile(ref request));
    }

    private DmaBufIoException NotPerRequest(int slot, string problem) =>
        new(Errno.EOPNOTSUPP, "Rings", $"slot {slot} of {Name}", $"the buffer cannot be mapped per request: {problem}", "Register it premapped", rule: "R1");
}
