using System.Runtime.CompilerServices;
using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Io;
using DmaBufIo.Iov;

namespace DmaBufIo.Rings;

/// <summary>
/// The application's way in: a table of registered buffers, requests prepared one by one and submitted in batches, completions reaped in batches.
/// Devices are looked at when the ring's thread submits or reaps; between looks it polls or sleeps, as <see cref="RingOptions.Completion"/> says.
/// </summary>
/// <remarks>
/// Used by one thread at a time. Another thread that drains a map may borrow it (T14, see <see cref="IoContext"/>): then completions are taken from the
/// devices and references dropped, but completions are handed to the application by <see cref="Reap(Span{RingCompletion})"/> alone.
/// Requests are prepared outside the context, because entering it costs as much as preparing. So places are taken and freed, and completions queued, by
/// the ring's thread alone: a visitor leaves what it has ended (<see cref="EndWhatVisitorsLeft"/>), also the clearing of places that may be being prepared.
/// <code>
///   Free → Prepared → (Parked ⇄) → Partial → Issued → (Ended →) Free
///                                → Bounced          →
/// </code>
/// A prepared or parked request holds no map reference; a partial, issued or bounced one holds exactly one (T16). Whenever the ring's thread leaves the context,
/// everything issued was committed to the devices, so that a drain never waits for a doorbell.
/// </remarks>
public sealed partial class Ring : IDisposable, IPollable, IBioOwner, IRequestSource
{
    private const int PollBatch = 256;

    private readonly RingOptions _options;
    private readonly IoContext _context;
    private readonly BioPool _bios;
    private readonly RingRequest[] _requests;
    private readonly IoRequest[] _ios;
    private readonly ReadOnlyMemory<BufferRange>[] _ranges;
    private readonly Registration?[] _slots; // and one more that is never filled, for slots outside the table
    private readonly List<RingFile> _files = [];
    private readonly int[] _free; // a stack: places used last are in the cache
    private readonly int[] _prepared;
    private readonly TagQueue _parked;
    private readonly TagQueue _partial;
    private readonly TagQueue _endedInVisit;
    private readonly List<Registration> _finished = []; // requests may still remember them
    private readonly CompletionQueue _ended;
    private readonly Queue<ulong> _endedTags = [];
    private MapUse? _run;
    private int _runEnd;
    private bool _isIssuingRun;
    private int _freeCount;
    private int _preparedHead;
    private int _preparedTail;
    private bool _roomMade;
    private bool _isVisit;
    private long _retries;
    private int _closing;
    private bool _disposed;

    /// <summary>Creates a ring with an empty table.</summary>
    /// <param name="options">How it is made.</param>
    /// <exception cref="DmaBufIoException">An option is out of its range (<c>EINVAL</c>), or too many rings are open (<c>EMFILE</c>).</exception>
    public Ring(RingOptions options)
    {
        if (options.Entries is < 1 or > 65536 || options.BufferSlots is < 0 or > 65535 || options.Bios < options.Entries)
            throw new DmaBufIoException(Errno.EINVAL, "Rings", options.Name, $"entries {options.Entries}, buffer slots {options.BufferSlots}, bios {options.Bios}", "Give 1 to 65,536 entries, 0 to 65,535 slots, and at least as many bios as entries");
        _options = options;
        _context = new IoContext(options.Name);
        _bios = new BioPool(options.Bios);
        int owner = _bios.AddOwner(this);
        _requests = new RingRequest[options.Entries];
        _ios = new IoRequest[options.Entries];
        _ranges = new ReadOnlyMemory<BufferRange>[options.Entries];
        _slots = new Registration?[options.BufferSlots + 1];
        _free = new int[options.Entries];
        _prepared = new int[options.Entries];
        _parked = new TagQueue(options.Entries);
        _partial = new TagQueue(options.Entries);
        _endedInVisit = new TagQueue(options.Entries);
        _ended = options.DriverThread ? CompletionQueue.WithoutRoom : new CompletionQueue(options.Entries);
        _async = new AsyncRequest?[options.Entries];
        _asyncPool = new AsyncRequestPool(continueElsewhere: options.DriverThread);
        _freeCount = options.Entries;
        for (int i = 0; i < options.Entries; i++)
        {
            _free[i] = options.Entries - 1 - i;
            _ios[i].Tag = i;
            _ios[i].BioOwner = owner;
        }

        _context.AddPollable(this);
        SnapshotRegistry.Add(this);
        _wake = options.Completion == CompletionMode.Interrupts ? new WakeSignal(options.Name) : null;
        options.Group?.Add(this);
        if (!options.DriverThread)
            return;
        _driver = new Driver(this);
        _driver.Start();
    }

    /// <summary>A name for messages.</summary>
    public string Name => _options.Name;

    /// <summary>Totals of the ring.</summary>
    public IoCounters Counters => _context.Counters;

    /// <summary>The ring's context.</summary>
    public IoContext Context => _context;

    /// <summary>Requests submitted and not ended: issued, in part or wholly, or parked.</summary>
    public int InFlight => _requests.Length - _freeCount - (_preparedTail - _preparedHead) - _endedInVisit.Count;

    /// <summary>Requests that can be prepared before some must be reaped.</summary>
    public int Room => _freeCount - (_driver is null ? _ended.Count : 0);

    private int Unreaped => _endedInVisit.Count + (_driver is null ? _ended.Count : 0);

    private bool IsClosing => Volatile.Read(ref _closing) != 0;

    /// <summary>Prepares a read from a file into a registered buffer.</summary>
    /// <param name="file">The file the buffer was registered with.</param>
    /// <param name="slot">The buffer's slot.</param>
    /// <param name="bufferOffset">First byte in the buffer; a multiple of 4 (R2).</param>
    /// <param name="length">Bytes, a multiple of the file's block; 0 succeeds and moves nothing.</param>
    /// <param name="fileOffset">First byte in the file, a multiple of its block.</param>
    /// <param name="userData">Comes back with the completion.</param>
    /// <returns>False when the ring is full: submit and reap first.</returns>
    [Diagnostics.HotPath]
    public bool TryReadFixed(IoFile file, int slot, long bufferOffset, long length, long fileOffset, ulong userData) =>
        TryPrepare(RingOperation.ReadFixed, file, slot, bufferOffset, length, fileOffset, userData);

    /// <summary>Prepares a write from a registered buffer to a file; see <see cref="TryReadFixed"/>.</summary>
    /// <param name="file">The file the buffer was registered with.</param>
    /// <param name="slot">The buffer's slot.</param>
    /// <param name="bufferOffset">First byte in the buffer.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="fileOffset">First byte in the file.</param>
    /// <param name="userData">Comes back with the completion.</param>
    [Diagnostics.HotPath]
    public bool TryWriteFixed(IoFile file, int slot, long bufferOffset, long length, long fileOffset, ulong userData) =>
        TryPrepare(RingOperation.WriteFixed, file, slot, bufferOffset, length, fileOffset, userData);

    /// <summary>Prepares a read into several ranges of a registered buffer: one request, one map reference, one bio or more per range (I6).</summary>
    /// <param name="file">The file.</param>
    /// <param name="slot">The buffer's slot.</param>
    /// <param name="ranges">The ranges in file order, each whole blocks; left alone until the request has ended.</param>
    /// <param name="fileOffset">First byte in the file.</param>
    /// <param name="userData">Comes back with the completion.</param>
    /// <returns>False when the ring is full.</returns>
    [Diagnostics.HotPath]
    public bool TryReadFixedVector(IoFile file, int slot, ReadOnlyMemory<BufferRange> ranges, long fileOffset, ulong userData) =>
        TryPrepareVector(RingOperation.ReadFixedVector, file, slot, ranges, fileOffset, userData);

    /// <summary>Prepares a write from several ranges of a registered buffer; see <see cref="TryReadFixedVector"/>.</summary>
    /// <param name="file">The file.</param>
    /// <param name="slot">The buffer's slot.</param>
    /// <param name="ranges">The ranges in file order.</param>
    /// <param name="fileOffset">First byte in the file.</param>
    /// <param name="userData">Comes back with the completion.</param>
    /// <returns>False when the ring is full.</returns>
    [Diagnostics.HotPath]
    public bool TryWriteFixedVector(IoFile file, int slot, ReadOnlyMemory<BufferRange> ranges, long fileOffset, ulong userData) =>
        TryPrepareVector(RingOperation.WriteFixedVector, file, slot, ranges, fileOffset, userData);

    /// <summary>Prepares a flush: everything that completed before it is submitted becomes durable.</summary>
    /// <param name="file">The file.</param>
    /// <param name="userData">Comes back with the completion.</param>
    /// <returns>False when the ring is full.</returns>
    [Diagnostics.HotPath]
    public bool TryFlush(IoFile file, ulong userData) => TryPrepare(RingOperation.Flush, file, -1, 0, 0, 0, userData);

    /// <summary>Submits everything prepared, and again what was sent back. May sleep where a map must be made, unless the ring is made with <see cref="RingOptions.NoWait"/>.</summary>
    /// <param name="cancellationToken">Interrupts a wait for a map: that request then ends with <c>EINTR</c>.</param>
    /// <returns>How many prepared requests were taken: all of them.</returns>
    [Diagnostics.HotPath]
    public int Submit(CancellationToken cancellationToken = default)
    {
        CheckPlain();
        return SubmitPrepared(cancellationToken);
    }

    [Diagnostics.HotPath]
    private int SubmitPrepared(CancellationToken cancellationToken)
    {
        int count = _preparedTail - _preparedHead;
        _context.Enter();
        try
        {
            EndWhatVisitorsLeft();
            EndCancelled();
            if (_parked.Count != 0)
                RetryParked(cancellationToken);
            StartPrepared(cancellationToken);
            if (_hasUnaligned)
                StartUnaligned(cancellationToken);
            Commit();
        }
        finally
        {
            _context.Leave();
        }

        return count;
    }

    /// <summary>Looks at the devices once and hands out completions.</summary>
    /// <param name="completions">Where they go.</param>
    /// <returns>How many.</returns>
    [Diagnostics.HotPath]
    public int Reap(Span<RingCompletion> completions) => Reap(completions, 0);

    /// <summary>Hands out completions, looking at the devices until there are enough. May sleep, like <see cref="Submit"/>, to issue again what was sent back.</summary>
    /// <param name="completions">Where they go.</param>
    /// <param name="minimum">Waits for so many, as far as that many are in flight.</param>
    /// <param name="cancellationToken">Ends the wait: what there is is handed out.</param>
    /// <returns>How many.</returns>
    [Diagnostics.HotPath]
    public int Reap(Span<RingCompletion> completions, int minimum, CancellationToken cancellationToken = default)
    {
        CheckPlain();
        return ReapEnded(completions, minimum, cancellationToken);
    }

    [Diagnostics.HotPath]
    private int ReapEnded(Span<RingCompletion> completions, int minimum, CancellationToken cancellationToken)
    {
        int reaped = 0;
        int idleRounds = 0;
        while (true)
        {
            int progress;
            int left;
            _context.EnterToReap();
            _context.CountReap();
            try
            {
                progress = PollFiles();
                EndWhatVisitorsLeft();
                EndCancelled();
                if (_parked.Count != 0 && (_roomMade || _parked.Count == InFlight))
                    RetryParked(cancellationToken);
                Commit();
                if (_driver is null)
                    reaped += TakeEnded(completions[reaped..]);
                TakeEndedAsync();
                left = InFlight + Unreaped;
            }
            finally
            {
                _context.Leave();
            }

            RunContinuations();

            // One of them may have disposed the ring.
            if (_disposed || reaped >= minimum || reaped == completions.Length || left == 0 || cancellationToken.IsCancellationRequested)
                return reaped;
            idleRounds = progress == 0 ? idleRounds + 1 : 0;
            if (_wake is null || !TrySleep(idleRounds, cancellationToken))
                Idle(idleRounds);
        }
    }

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>
    /// Waits until every request has ended, then closes: registrations are removed, files put. Awaited requests end as they do, and their
    /// continuations run; awaited requests that those make are refused (<see cref="ObjectDisposedException"/>), plain ones end unseen; what
    /// a continuation throws comes out here, and the ring stays open. A driver thread is ended. Not while holding a reservation lock.
    /// Idempotent; may be called by a continuation.
    /// </summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _closing, 1) != 0)
            return;
        bool drained = false;
        try
        {
            _driver?.Stop();
            Drain();
            drained = true;
        }
        finally
        {
            // A continuation threw: the ring is as it was, and may be closed again.
            if (!drained)
                Volatile.Write(ref _closing, 0);
        }

        for (int slot = 0; slot < _slots.Length; slot++)
        {
            if (_slots[slot] is not null)
                RemoveBuffer(slot);
        }

        _disposed = true;
        _freeCount = 0; // nothing can be prepared any more
        _context.RemovePollable(this);
        SnapshotRegistry.Remove(this);
        _options.Group?.Remove(this);

        // A visitor may have found the ring before it was removed: entering waits for its end.
        _context.Enter();
        _context.Leave();
        foreach (RingFile file in _files)
        {
            file.Queue.Dispose();
            file.File.Put();
        }

        _context.Dispose();
        _bios.Dispose();
        _pool?.Dispose();
    }

    [Diagnostics.HotPath]
    private bool TryPrepare(RingOperation operation, IoFile file, int slot, long bufferOffset, long length, long fileOffset, ulong userData)
    {
        int left = _freeCount - 1;
        if (left < _ended.Count)
            return Refuse();
        Prepare(left, operation, file, slot, bufferOffset, length, fileOffset, userData);
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    [Diagnostics.HotPath]
    private int Prepare(int left, RingOperation operation, IoFile file, int slot, long bufferOffset, long length, long fileOffset, ulong userData)
    {
        _freeCount = left;
        int tag = _free[left];
        ref RingRequest request = ref _requests[tag];
        ref IoRequest io = ref _ios[tag];
        io.FileOffset = fileOffset;
        io.Transferred = 0;
        io.Pending = 0;
        io.Status = Errno.Ok;
        io.Iter.SetRange(bufferOffset, length, ((int)operation & 1) != 0 ? DmaDirection.ToDevice : DmaDirection.FromDevice);
        request.UserData = userData;
        request.Prepare((int)Math.Min((uint)slot, (uint)_slots.Length - 1), operation);
        if (!ReferenceEquals(request.File, file))
            request.File = file;
        _prepared[_preparedTail++] = tag;
        return tag;
    }

    [Diagnostics.HotPath]
    private bool TryPrepareVector(RingOperation operation, IoFile file, int slot, ReadOnlyMemory<BufferRange> ranges, long fileOffset, ulong userData)
    {
        if (!TryPrepare(operation, file, slot, 0, 0, fileOffset, userData))
            return false;
        _ranges[_prepared[_preparedTail - 1]] = ranges;
        return true;
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private bool Refuse()
    {
        CheckPlain();
        return false;
    }

    private void Drain()
    {
        Span<RingCompletion> completions = stackalloc RingCompletion[64];
        do
        {
            SubmitPrepared(CancellationToken.None);
            while (InFlight + Unreaped + _asyncOutstanding > 0)
                ReapEnded(completions, 1, CancellationToken.None);
            RunContinuations();
        }
        while (_preparedTail != _preparedHead);
    }

    [Diagnostics.HotPath]
    private int TakeEnded(Span<RingCompletion> completions)
    {
        int count = _ended.Take(completions);
        while (count < completions.Length && _endedTags.Count > 0)
            completions[count++] = new RingCompletion(_endedTags.Dequeue(), Errno.Ok, 0);
        return count;
    }

    // Devices have threads of their own, perhaps on this core: after a few looks the polling thread steps aside for them.
    private static void Idle(int rounds)
    {
        if (rounds < 16)
            Thread.SpinWait(16);
        else if (rounds < 4096)
            Thread.Yield();
        else
            Thread.Sleep(1);
    }
}
