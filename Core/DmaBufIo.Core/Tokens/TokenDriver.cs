using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;

namespace DmaBufIo.Tokens;

/// <summary>
/// A driver's part of a token: the three operations of T3. They are abstract, so a driver that leaves one out does not compile.
/// </summary>
/// <remarks>
/// A stacking driver creates its members' drivers and adopts them in its <see cref="Setup"/> (<see cref="Adopt"/>), and calls their <see cref="Map"/> and <see cref="Unmap"/> under the one
/// hold of the lock it was called with: members have no gate and no creators' lock of their own (§9).
/// </remarks>
public abstract class TokenDriver : IInvalidationTarget
{
    private readonly List<DmaAttachment> _attachments = [];
    private readonly Lock _membersLock = new();
    private TokenDriver[] _members = []; // replaced as a whole: read without the lock
    private TokenDriver? _parent;
    private DmaBufToken? _token;
    private bool _hasCpu;

    /// <summary>Creates the driver's part.</summary>
    /// <param name="buffer">The buffer that is going to be registered.</param>
    /// <param name="direction">The transfers that the token is for.</param>
    protected TokenDriver(DmaBuf buffer, DmaDirection direction)
    {
        Buffer = buffer;
        Direction = direction;
    }

    /// <summary>The buffer.</summary>
    public DmaBuf Buffer { get; }

    /// <summary>The transfers that the token is for.</summary>
    public DmaDirection Direction { get; }

    /// <summary>The devices attached by this driver and its members.</summary>
    public IEnumerable<DmaDevice> Devices => _attachments.Select(static a => a.Device).Concat(Members.SelectMany(static m => m.Devices)).Distinct();

    /// <summary>
    /// True when no map can be made any more, because a device that is needed for one was removed (T11): the token answers <c>ENODEV</c>. Called with and without locks; must
    /// not wait. The default: any of the devices was removed. A driver that can do without some of its members says so here.
    /// </summary>
    public virtual bool IsLost => Array.Exists([.. _attachments], static a => a.Device.IsRemoved) || Array.Exists(Members, static m => m.IsLost);

    private TokenDriver[] Members => Volatile.Read(ref _members);

    /// <summary>
    /// Attaches the devices (<see cref="Attach"/>), adopts members, allocates what every map needs. Called once, before the first <see cref="Map"/>, without
    /// locks; may sleep. When it throws, Core calls <see cref="Release"/> and ends what was attached: nothing is left behind (T2).
    /// </summary>
    /// <exception cref="Errors.DmaBufIoException">The device cannot take the buffer; the message says why.</exception>
    protected internal abstract void Setup();

    /// <summary>Makes a map. Called with the reservation lock held (T5); may sleep; must not lock again, nor wait for a fence whose signal needs the lock (F4).</summary>
    /// <param name="held">Proof that the buffer's lock is held.</param>
    /// <returns>A new map. When it throws, nothing stays mapped.</returns>
    /// <exception cref="Errors.DmaBufIoException">The device cannot map the buffer; the message says why.</exception>
    public abstract DmaMap Map(in HeldReservation held);

    /// <summary>Undoes <see cref="Map"/>, once per map, after the last request that used it has ended (T8). Called with the reservation lock held, on a worker.</summary>
    /// <param name="map">The map.</param>
    /// <param name="held">Proof that the buffer's lock is held.</param>
    public abstract void Unmap(DmaMap map, in HeldReservation held);

    /// <summary>
    /// Asked right before a map is published: false when it needs a device that was removed while it was being made. It is unmapped then, and another one is made. Must not wait.
    /// </summary>
    /// <param name="map">A map that this driver has made.</param>
    protected internal virtual bool IsCurrent(DmaMap map) => !IsLost;

    /// <summary>The token is gone, or <see cref="Setup"/> has failed half-way: frees what the driver holds. Called once, without the lock, after every map was unmapped (T10). Attachments are Core's to end.</summary>
    public abstract void Release();

    /// <summary>Attaches a device to the buffer, dynamically; Core detaches it after <see cref="Release"/>, also when the creation fails.</summary>
    /// <param name="device">The device.</param>
    /// <returns>The attachment, to map through.</returns>
    protected DmaAttachment Attach(DmaDevice device)
    {
        DmaAttachment attachment = Buffer.Attach(device, this);
        _attachments.Add(attachment);
        return attachment;
    }

    /// <summary>Attaches the CPU to the buffer, dynamically; Core detaches it like a device. At most once.</summary>
    private protected void AttachCpu()
    {
        Buffer.AttachCpu(this);
        _hasCpu = true;
    }

    /// <summary>
    /// Makes another driver a member of this one and sets it up: its invalidations go to this token, its release and attachments end with it. In <see cref="Setup"/>, or
    /// later in <see cref="Map"/> when a set has got a new member.
    /// </summary>
    /// <param name="member">The member's driver, for the same buffer, not adopted yet.</param>
    /// <exception cref="Errors.DmaBufIoException">The member cannot take the buffer. It stays adopted, unused, and ends with this driver.</exception>
    protected void Adopt(TokenDriver member)
    {
        member._parent = this;
        lock (_membersLock)
            _members = [.. _members, member];
        member.Setup();
        Root._token?.HoldDevices();
    }

    /// <summary>
    /// Kills the live map of the token this driver belongs to, as a device's reset does, and does not wait (T11): for a set whose members have changed. Not in completion context.
    /// </summary>
    protected void KillMaps() => Root._token?.KillMaps();

    /// <summary>Waits until no map is left that was killed before, nor any whose making had begun. Not while holding a reservation lock, nor in completion context.</summary>
    protected void WaitUnmapped() => Root._token?.WaitUnmapped();

    void IInvalidationTarget.Invalidate(InvalidationBatch batch, in HeldReservation held) => Root._token?.CollectInvalidation(batch, held);

    internal TokenDriver Root => _parent?.Root ?? this;

    internal void Bind(DmaBufToken token) => _token = token;

    /// <summary>Releases members last to first, then this driver, then ends the attachments. Goes on when a driver throws.</summary>
    internal void ReleaseAll(Action<string, Action> guarded)
    {
        guarded($"Release of {GetType().Name}", Release);
        for (int i = Members.Length - 1; i >= 0; i--)
            Members[i].ReleaseAll(guarded);
        DetachAll();
    }

    /// <summary>Ends the attachments of this driver alone.</summary>
    internal void DetachAll()
    {
        for (int i = _attachments.Count - 1; i >= 0; i--)
            Buffer.Detach(_attachments[i], this);
        _attachments.Clear();
        if (_hasCpu)
            Buffer.DetachCpu(this);
        _hasCpu = false;
    }
}
