using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Sync;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>The table of registered buffers (R1, R5, R6). A ring's table is its own: there is no way to clone a registration into another ring (R5).</content>
public sealed partial class Ring
{
    private readonly SleepingMutex _openers = new("files of a ring");

    /// <summary>Registers a buffer in a slot. A slot that is filled is replaced; if that fails, the old registration goes on working (R6).</summary>
    /// <param name="slot">0 to the table's size - 1.</param>
    /// <param name="registration">Buffer, file, direction.</param>
    /// <exception cref="DmaBufIoException">
    /// No table (<c>ENXIO</c>); slot outside the table, address, length or reserved given, more than one of buffer, descriptor and memory,
    /// an unknown mapping or policy, a descriptor that is no dma-buf, a file opened for buffered I/O, a block that does not fit a piece of
    /// the bounce pool (<c>EINVAL</c>); no buffer or file given or one that was closed (<c>EBADF</c>); a file without the token operation,
    /// or a buffer that moves or does not say what it is made of, to be mapped per request (<c>EOPNOTSUPP</c>); the device cannot reach the
    /// buffer's memory (<c>EREMOTEIO</c>); the device is gone (<c>ENODEV</c>) (R1). With <see cref="TransferPolicy.AllowBounce"/>
    /// <c>EOPNOTSUPP</c> and <c>EREMOTEIO</c> are left only for a buffer whose memory the CPU does not see.
    /// </exception>
    public void RegisterBuffer(int slot, BufferRegistration registration)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        CheckSlot(slot);
        if (registration.Address != 0 || registration.Length != 0 || registration.Reserved != 0)
            throw Refused(Errno.EINVAL, slot, "address, length and reserved fields must be 0: the whole buffer is registered and requests give offsets into it", "Leave them out");
        if (registration.Tag != 0 && _driver is not null)
        {
            throw Refused(
                Errno.EINVAL,
                slot,
                "a ring with a driver thread hands out no completions, so a tag would tell nobody",
                "Leave it out and wait for the release of what RemoveBuffer answers");
        }

        if (!Enum.IsDefined(registration.Mapping))
            throw Refused(Errno.EINVAL, slot, $"'{registration.Mapping}' is no way of mapping", "Give Premapped or PerRequest");
        IoFile file = registration.File ?? throw Refused(Errno.EBADF, slot, "no target file was given", "Give the file whose requests will use the buffer");
        if (file.IsClosed)
            throw Refused(Errno.EBADF, slot, $"the target file {file.Name} was closed", "Open it again");
        TransferPolicy policy = registration.Policy ?? _options.TransferPolicy;
        if (!Enum.IsDefined(policy))
            throw Refused(Errno.EINVAL, slot, $"'{policy}' is no transfer policy", "Give Direct or AllowBounce");
        DmaBuf buffer = TakeBuffer(slot, registration);
        try
        {
            if (policy == TransferPolicy.AllowBounce && !file.IsPaged)
            {
                Replace(slot, RegisterBouncing(slot, registration, file, buffer));
                return;
            }

            if (registration.Mapping == BufferMapping.PerRequest)
            {
                Replace(slot, RegisterPerRequest(slot, registration, file, buffer));
                return;
            }

            DmaBufToken token = file.OpenToken(buffer, registration.Direction, _options.Tokens);
            RingFile ringFile;
            try
            {
                ringFile = OpenFile(file);
            }
            catch
            {
                token.Release();
                throw;
            }

            Replace(slot, new Registration(token, ringFile, registration.Tag));
        }
        finally
        {
            // The token, or the registration without one, has a reference of its own by now.
            buffer.Put();
        }
    }

    /// <summary>Empties a slot and returns at once. Requests in flight keep the old registration until they end; new ones get <c>EFAULT</c> (R6).</summary>
    /// <param name="slot">The slot.</param>
    /// <returns>The registration, whose release can be waited for.</returns>
    /// <exception cref="DmaBufIoException">No table (<c>ENXIO</c>), outside the table (<c>EINVAL</c>), or empty (<c>ENXIO</c>).</exception>
    public RemovedBuffer RemoveBuffer(int slot)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        CheckSlot(slot);
        Registration old = Replace(slot, null) ?? throw Refused(Errno.ENXIO, slot, "the slot is empty", "Remove a slot that is filled");
        return new RemovedBuffer(old, _context);
    }

    /// <summary>The token of a filled slot, or null.</summary>
    /// <param name="slot">The slot.</param>
    /// <returns>Null also when the buffer is mapped per request, or every request is bounced (<see cref="BounceTokenAt"/>).</returns>
    public DmaBufToken? TokenAt(int slot) => (uint)slot < (uint)_slots.Length ? _slots[slot]?.AnyToken : null;

    /// <summary>How the buffer of a filled slot is mapped; null when the slot is empty or outside the table.</summary>
    /// <param name="slot">The slot.</param>
    public BufferMapping? MappingAt(int slot) =>
        (uint)slot >= (uint)_slots.Length || _slots[slot] is not { } filled ? null
        : filled.Memory is null ? BufferMapping.Premapped : BufferMapping.PerRequest;

    /// <summary>Makes a file usable in requests without a buffer (flush). Files of registered buffers are usable already.</summary>
    /// <param name="file">The file; the ring takes a reference until it is disposed.</param>
    public void AddFile(IoFile file)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        OpenFile(file);
    }

    private Registration? Replace(int slot, Registration? registration)
    {
        Registration? old = null;
        AsOwner(() =>
        {
            old = _slots[slot];
            if (registration is not null)
                registration.Bare = NewUse(registration, null);
            _slots[slot] = registration;
            if (old is not null)
            {
                old.IsRemoved = true;
                if (old.InFlight == 0)
                    Finish(old);
            }

            EndWhatVisitorsLeft();
        });
        return old;
    }

    /// <summary>The last request of a removed registration has ended; it may be running in completion context, so workers do the rest (T10).</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private void Finish(Registration registration)
    {
        _finished.Add(registration);
        registration.Release();
        if (registration.Tag != 0)
            _endedTags.Enqueue(registration.Tag);
    }

    private DmaBuf TakeBuffer(int slot, BufferRegistration registration)
    {
        object?[] ways = [registration.Buffer, registration.Descriptor, registration.Memory];
        if (ways.Count(static w => w is not null) > 1)
            throw Refused(Errno.EINVAL, slot, "more than one of a buffer, a descriptor and memory were given", "Give one of the three");
        if (registration.Buffer is { } buffer)
        {
            buffer.Get();
            return buffer;
        }

        if (registration.Memory is { } memory)
            return DmaBuf.FromMemory(memory);
        return registration.Descriptor is { } descriptor
            ? DmaBuf.FromDescriptor(descriptor)
            : throw Refused(Errno.EBADF, slot, "no buffer was given", "Give a buffer, its descriptor, or memory of your own");
    }

    private RingFile OpenFile(IoFile file)
    {
        if (_driver is null)
            return OpenFileOnce(file);

        // Any thread may come; the list changes under this mutex only.
        _openers.Lock();
        try
        {
            return OpenFileOnce(file);
        }
        finally
        {
            _openers.Unlock();
        }
    }

    private RingFile OpenFileOnce(IoFile file)
    {
        if (FindFile(file) is { } known)
            return known;
        file.Get();
        try
        {
            var opened = new RingFile(file, OpenQueue(file));

            // A visitor, or the driver thread, may be going through the list.
            AsOwner(() => _files.Add(opened));
            return opened;
        }
        catch
        {
            file.Put();
            throw;
        }
    }

    private FileQueue OpenQueue(IoFile file)
    {
        FileQueue queue = file.OpenQueue(_context, _bios, _options.Entries);
        try
        {
            ConnectInterrupts(file, queue);
            return queue;
        }
        catch
        {
            queue.Dispose();
            throw;
        }
    }

    [Diagnostics.HotPath]
    private RingFile? FindFile(IoFile file)
    {
        foreach (RingFile known in _files)
        {
            if (ReferenceEquals(known.File, file))
                return known;
        }

        return null;
    }

    private void CheckSlot(int slot)
    {
        if (_options.BufferSlots == 0)
            throw Refused(Errno.ENXIO, slot, "the ring has no table of buffers", "Create the ring with BufferSlots > 0");
        if ((uint)slot >= (uint)_options.BufferSlots)
            throw Refused(Errno.EINVAL, slot, $"the table has {_options.BufferSlots} slots", $"Use a slot from 0 to {_options.BufferSlots - 1}");
    }

    private DmaBufIoException Refused(Errno errno, int slot, string problem, string remedy) =>
        new(errno, "Rings", $"slot {slot} of {Name}", problem, remedy, rule: "R1");
}
