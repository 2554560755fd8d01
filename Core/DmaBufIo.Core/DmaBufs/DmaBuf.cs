using System.Runtime.InteropServices;
using DmaBufIo.Devices;
using DmaBufIo.Errors;
using DmaBufIo.Native;

namespace DmaBufIo.DmaBufs;

/// <summary>
/// A buffer shared between devices (the kernel's dma_buf): a size, an exporter, one reservation object, and the devices attached to it.
/// Counted: created with one reference, freed with the last.
/// </summary>
public sealed partial class DmaBuf
{
    private readonly Lock _attachLock = new();
    private readonly List<DmaAttachment> _attachments = [];
    private readonly List<IInvalidationTarget> _cpuTargets = []; // importers without a device
    private readonly MemfdHandle? _descriptor;
    private int _references = 1;
    private long _generation = 1;
    private int _pins;
    private volatile bool _isFreed;

    /// <summary>Creates a buffer; called by exporters.</summary>
    /// <param name="name">A name for messages.</param>
    /// <param name="size">Bytes, a positive multiple of the page size.</param>
    /// <param name="exporter">The owner of its memory.</param>
    /// <param name="descriptor">
    /// The descriptor that stands for the buffer outside this process and in <see cref="FromDescriptor"/>, or null when it has none. Owned by the buffer from here on, also when this throws.
    /// </param>
    /// <exception cref="DmaBufIoException">The size is not a positive multiple of the page size (<c>EINVAL</c>).</exception>
    public DmaBuf(string name, long size, DmaBufExporter exporter, MemfdHandle? descriptor = null)
    {
        if (size <= 0 || size % Memory.MemoryRegion.PageSize != 0)
        {
            descriptor?.Dispose();
            throw new DmaBufIoException(Errno.EINVAL, "DmaBufs", name, $"the size is not a positive multiple of the page size ({Memory.MemoryRegion.PageSize})", "Round the size up to whole pages", range: $"0+{size}");
        }

        Name = name;
        Size = size;
        Exporter = exporter;
        Reservation = new ReservationObject(name);
        _descriptor = descriptor;
        if (descriptor is null)
            return;
        try
        {
            DmaBufTable.Add(descriptor, this);
        }
        catch
        {
            descriptor.Dispose();
            throw;
        }
    }

    /// <summary>A name for messages.</summary>
    public string Name { get; }

    /// <summary>Length in bytes, a multiple of the page size.</summary>
    public long Size { get; }

    /// <summary>The owner of the memory.</summary>
    public DmaBufExporter Exporter { get; }

    /// <summary>The lock and the fences.</summary>
    public ReservationObject Reservation { get; }

    /// <summary>Advanced by every invalidation; changes only with the reservation lock held.</summary>
    public long Generation => Volatile.Read(ref _generation);

    /// <summary>References held: by users, registrations and tokens.</summary>
    public int References => Volatile.Read(ref _references);

    /// <summary>True once the last reference is gone and the exporter's <see cref="DmaBufExporter.Release"/> has returned: from then on no code of the exporter runs for this buffer.</summary>
    public bool IsFreed => _isFreed;

    /// <summary>
    /// Raised once, when <see cref="IsFreed"/> has become true, on the thread that dropped the last reference and with whatever that thread holds: handlers take no lock that might be held while a reference is
    /// dropped, do not wait and do not throw. Add them while a reference is held.
    /// </summary>
    public event Action? Freed;

    /// <summary>The descriptor that stands for the buffer, or null. Owned by the buffer: duplicate it to keep it.</summary>
    public MemfdHandle? Descriptor => _descriptor;

    /// <summary>Attachments that exist, for diagnostics and tests. The CPU counts as one device.</summary>
    public int Attachments
    {
        get
        {
            lock (_attachLock)
                return _attachments.Count + (_cpuTargets.Count == 0 ? 0 : 1);
        }
    }

    /// <summary>The attachments that exist now: for exporters that choose a place all devices reach, and for those who ask where the buffer lay. Any thread.</summary>
    public IReadOnlyList<DmaAttachment> Attached
    {
        get
        {
            lock (_attachLock)
                return [.. _attachments];
        }
    }

    /// <summary>Finds the buffer that a descriptor stands for.</summary>
    /// <param name="descriptor">An open descriptor of this process; stays the caller's.</param>
    /// <returns>The buffer with one more reference, which the caller drops by <see cref="Put"/>.</returns>
    /// <exception cref="DmaBufIoException">A closed descriptor (<c>EBADF</c>), or one that is no dma-buf (<c>EINVAL</c>) (R1).</exception>
    public static DmaBuf FromDescriptor(SafeHandle descriptor) => DmaBufTable.Find(descriptor);

    /// <summary>
    /// The buffer that stands for memory of the application's own: it never moves and covers the whole region. The same region answers the
    /// same buffer for as long as anyone holds a reference on it, so that users of one device share its attachment.
    /// </summary>
    /// <param name="memory">The region. Stays the caller's, and stays allocated until the last reference on the buffer is dropped.</param>
    /// <returns>The buffer with one more reference, which the caller drops by <see cref="Put"/>.</returns>
    /// <exception cref="DmaBufIoException">The region was disposed (<c>EBADF</c>).</exception>
    public static DmaBuf FromMemory(Memory.MemoryRegion memory) => HostMemoryExporter.Export(memory);

    /// <summary>Takes a reference.</summary>
    /// <exception cref="DmaBufIoException">The buffer was freed (<c>EBADF</c>).</exception>
    public void Get()
    {
        if (!TryGet())
            throw new DmaBufIoException(Errno.EBADF, "DmaBufs", Name, "the buffer was freed", "Take the reference before the last one is dropped");
    }

    /// <summary>Drops a reference; the last one frees the memory. Not in completion context.</summary>
    /// <exception cref="InvalidOperationException">More references were dropped than taken, or an attachment is left.</exception>
    public void Put()
    {
        int left = Interlocked.Decrement(ref _references);
        if (left > 0)
            return;
        if (left < 0)
            throw new InvalidOperationException($"A reference of buffer {Name} was dropped twice.");
        if (Attachments != 0)
            throw new InvalidOperationException($"Buffer {Name} was freed with {Attachments} devices attached; detach before dropping the last reference.");
        if (_descriptor is not null)
            DmaBufTable.Remove(_descriptor, this);
        try
        {
            Exporter.Release();
            _descriptor?.Dispose();
        }
        finally
        {
            _isFreed = true;
            Freed?.Invoke();
        }
    }

    /// <summary>What the buffer is made of now.</summary>
    public BufferBacking Describe() => Exporter.Describe();

    /// <summary>
    /// Attaches a device. A second attachment of the same kind for the same device is the same object, counted.
    /// </summary>
    /// <param name="device">The device.</param>
    /// <param name="target">Takes invalidations (dynamic); null for a static attachment, which pins the buffer (takes the reservation lock, may sleep).</param>
    /// <returns>The attachment; end it by <see cref="Detach"/> with the same target.</returns>
    /// <exception cref="DmaBufIoException">The device is gone (<c>ENODEV</c>), or the exporter cannot pin.</exception>
    public DmaAttachment Attach(DmaDevice device, IInvalidationTarget? target)
    {
        device.ThrowIfRemoved("DmaBufs");
        if (target is not null)
            return AddUser(device, target);
        using ReservationGuard guard = Reservation.Lock();

        // Attached first: the exporter chooses a place that this device reaches, too.
        DmaAttachment pinning = AddUser(device, null);
        try
        {
            if (_pins == 0)
                Exporter.Pin(guard.Held);
            _pins++;
            return pinning;
        }
        catch
        {
            RemoveUser(pinning, null);
            throw;
        }
    }

    private DmaAttachment AddUser(DmaDevice device, IInvalidationTarget? target)
    {
        lock (_attachLock)
        {
            DmaAttachment? attachment = _attachments.Find(a => ReferenceEquals(a.Device, device) && a.IsDynamic == target is not null);
            if (attachment is null)
            {
                attachment = new DmaAttachment(this, device, target is not null);
                _attachments.Add(attachment);
            }

            attachment.Users++;
            if (target is not null)
                attachment.Targets.Add(target);
            return attachment;
        }
    }

    private void RemoveUser(DmaAttachment attachment, IInvalidationTarget? target)
    {
        lock (_attachLock)
        {
            if (target is not null && !attachment.Targets.Remove(target))
                throw new InvalidOperationException($"This importer is not attached to buffer {Name} through device {attachment.Device}.");
            if (--attachment.Users == 0)
                _attachments.Remove(attachment);
        }
    }

    /// <summary>Ends one use of an attachment; every table that the user mapped has been given back.</summary>
    /// <param name="attachment">The attachment.</param>
    /// <param name="target">The target given to <see cref="Attach"/>.</param>
    public void Detach(DmaAttachment attachment, IInvalidationTarget? target)
    {
        RemoveUser(attachment, target);
        if (target is null)
        {
            using ReservationGuard guard = Reservation.Lock();
            if (--_pins == 0)
                Exporter.Unpin(guard.Held);
        }
    }

    /// <summary>
    /// Attaches the CPU, dynamically: its importer takes the memory from <see cref="Describe"/>, with the reservation lock held, where devices are given a table.
    /// </summary>
    /// <param name="target">Takes invalidations like a device's importer; end it by <see cref="DetachCpu"/>.</param>
    internal void AttachCpu(IInvalidationTarget target)
    {
        lock (_attachLock)
            _cpuTargets.Add(target);
    }

    /// <summary>Ends <see cref="AttachCpu"/>.</summary>
    /// <param name="target">The target given to it.</param>
    internal void DetachCpu(IInvalidationTarget target)
    {
        lock (_attachLock)
        {
            if (!_cpuTargets.Remove(target))
                throw new InvalidOperationException($"This importer is not attached to buffer {Name} for the CPU.");
        }
    }

    /// <summary>
    /// Tells every dynamic importer to give its maps up. In the draining design no request uses the old addresses when it returns; in the fenced
    /// design that is so when the fences it has added to the reservation object have signalled (F7).
    /// </summary>
    /// <param name="held">Proof that this buffer's lock is held (F6).</param>
    /// <returns>What was hit.</returns>
    public InvalidationReport InvalidateMappings(in HeldReservation held)
    {
        using var batch = new InvalidationBatch();
        CollectInvalidation(batch, held);
        return batch.Complete();
    }

    /// <summary>First phase of an invalidation over several buffers, all of whose locks are held: call it for each, then <see cref="InvalidationBatch.Complete"/> once (T17).</summary>
    /// <param name="batch">Collects what to kill and to wait for.</param>
    /// <param name="held">Proof that this buffer's lock is held.</param>
    public void CollectInvalidation(InvalidationBatch batch, in HeldReservation held)
    {
        held.AssertFor(Reservation);
        Interlocked.Increment(ref _generation);
        IInvalidationTarget[] targets;
        lock (_attachLock)
            targets = [.. _attachments.SelectMany(static a => a.Targets).Concat(_cpuTargets).Distinct()];
        foreach (IInvalidationTarget target in targets)
            target.Invalidate(batch, held);
    }

    /// <inheritdoc/>
    public override string ToString() => $"{Name} ({Size} bytes)";

    /// <summary>Takes a reference, unless the last one is gone: for exporters that know their buffers without holding references.</summary>
    /// <returns>False when the buffer was freed or is being freed.</returns>
    public bool TryGet()
    {
        int seen = Volatile.Read(ref _references);
        while (seen > 0)
        {
            int found = Interlocked.CompareExchange(ref _references, seen + 1, seen);
            if (found == seen)
                return true;
            seen = found;
        }

        return false;
    }
}
