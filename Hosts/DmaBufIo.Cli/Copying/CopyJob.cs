using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Cli.Copying;

/// <summary>
/// Moves the data: source → buffer → destination, with as many requests in flight as the queue depth allows. The buffer is cut into pieces of one
/// block; each piece is read, then written, then free again.
/// </summary>
internal sealed class CopyJob : IDisposable
{
    private const int SourceSlot = 0;
    private const int DestinationSlot = 1;

    private readonly CopySettings _settings;
    private readonly IoFile _source;
    private readonly IoFile _destination;
    private readonly long _size;
    private readonly BufferMover? _mover;
    private readonly Action<long> _progress;
    private readonly Ring _ring;
    private readonly Piece[] _pieces;
    private readonly Stack<int> _free = new();
    private readonly Queue<int> _ready = new();
    private readonly RingCompletion[] _completions;
    private readonly List<DmaBufToken> _tokens = [];
    private readonly DmaBuf _buffer;
    private long _next;
    private int _active;
    private bool _disposed;
    private DmaBufIoException? _failure;

    internal CopyJob(CopySettings settings, IoFile source, IoFile destination, DmaBuf buffer, long size, BufferMover? mover, Action<long> progress)
    {
        _settings = settings;
        _source = source;
        _destination = destination;
        _size = size;
        _buffer = buffer;
        int unit = Math.Max(source.BlockSize, destination.BlockSize);
        if (settings.Block % unit != 0)
            throw new DmaBufIoException(Errno.EINVAL, "copy", "option --block", $"{settings.Block} bytes are no multiple of a device's logical block ({unit})", $"Give a multiple of {unit}");
        _mover = mover;
        _progress = progress;
        int pieces = (int)Math.Min(settings.QueueDepth, settings.Buffer / settings.Block);
        _pieces = new Piece[pieces];
        _completions = new RingCompletion[Math.Max(1, pieces)];
        for (int i = pieces - 1; i >= 0; i--)
            _free.Push(i);
        _ring = new Ring(new RingOptions
        {
            Name = "copy",
            Entries = pieces + 1,
            BufferSlots = 2,
            Bios = Math.Max(1024, pieces + 1),
            Tokens = TokenOptions.Default with { Design = settings.Invalidation },
        });
        try
        {
            Register(SourceSlot, source, buffer, DmaDirection.FromDevice);
            Register(DestinationSlot, destination, buffer, DmaDirection.ToDevice);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Requests submitted.</summary>
    internal long Requests => _ring.Counters.Requests;

    /// <summary>Requests issued again.</summary>
    internal long Reissued => _ring.Counters.Reissued;

    /// <summary>Maps made for the two registrations.</summary>
    internal long Maps => _tokens.Sum(static t => t.MapsMade);

    /// <summary>Where the buffer lay for the devices.</summary>
    internal IReadOnlyList<PlacementReport> Placements =>
        [.. _buffer.Attached.SelectMany(static a => a.Placements.Select(p => new PlacementReport(a.Device.Name, p.Placement.Kind.ToString(), p.Placement.Reason, p.Maps)))];

    /// <summary>Bytes written and acknowledged.</summary>
    internal long Copied { get; private set; }

    /// <summary>Copies everything and flushes.</summary>
    /// <param name="cancellationToken">Stops the copy: what is in flight is drained first.</param>
    /// <exception cref="DmaBufIoException">A request failed; everything in flight has ended.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; everything in flight has ended.</exception>
    internal void Run(CancellationToken cancellationToken)
    {
        while (true)
        {
            bool goOn = _failure is null && !cancellationToken.IsCancellationRequested;
            if (goOn)
                BeginPieces();
            else
                Abandon();
            if (_ready.Count > 0)
            {
                Prepare();
                int submitted = _ring.Submit(cancellationToken);
                _mover?.Submitted(submitted, _tokens);
            }

            if (_active == 0)
                break;

            // Not interrupted: what is in flight is drained, whatever else happens.
            int count = _ring.Reap(_completions, _ready.Count > 0 ? 0 : 1, CancellationToken.None);
            for (int i = 0; i < count; i++)
                Completed(_completions[i], cancellationToken);
            _progress(Copied);
        }

        if (_failure is not null && _failure.Errno != Errno.EINTR)
            throw _failure;
        cancellationToken.ThrowIfCancellationRequested();
        Flush();
    }

    /// <summary>Drains what is in flight, removes the registrations and waits until the tokens are released.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _ring.Dispose();
        foreach (DmaBufToken token in _tokens)
            token.WaitReleased();
    }

    private void Register(int slot, IoFile file, DmaBuf buffer, DmaDirection direction)
    {
        _ring.RegisterBuffer(slot, new BufferRegistration { Buffer = buffer, File = file, Direction = direction });
        _tokens.Add(_ring.TokenAt(slot)!);
    }

    private void BeginPieces()
    {
        while (_next < _size && _free.Count > 0)
        {
            int index = _free.Pop();
            long data = Math.Min(_settings.Block, _size - _next);
            _pieces[index] = new Piece(_next, data, WholeBlocks(data, _source), Writing: false);
            _ready.Enqueue(index);
            _active++;
            _next += data;
        }
    }

    private void Prepare()
    {
        for (int left = Math.Min(_ready.Count, _mover?.UntilNext ?? int.MaxValue); left > 0; left--)
        {
            int index = _ready.Dequeue();
            ref Piece piece = ref _pieces[index];
            if (piece.Writing)
                _ring.TryWriteFixed(_destination, DestinationSlot, index * _settings.Block, piece.Length, piece.Offset, (ulong)index);
            else
                _ring.TryReadFixed(_source, SourceSlot, index * _settings.Block, piece.Length, piece.Offset, (ulong)index);
        }
    }

    /// <summary>Forgets what was not submitted; what was is still in flight.</summary>
    private void Abandon()
    {
        while (_ready.TryDequeue(out int index))
        {
            _free.Push(index);
            _active--;
        }
    }

    private void Completed(in RingCompletion completion, CancellationToken cancellationToken)
    {
        int index = (int)completion.UserData;
        ref Piece piece = ref _pieces[index];

        if (completion.Status != Errno.Ok || completion.Bytes != piece.Length)
        {
            _failure ??= Failed(piece, completion);
        }
        else if (!piece.Writing)
        {
            if (_failure is null && !cancellationToken.IsCancellationRequested)
            {
                // Whole blocks of the destination: what lies behind the data is cut off at the end.
                piece = piece with { Length = WholeBlocks(piece.Data, _destination), Writing = true };
                _ready.Enqueue(index);
                return;
            }
        }
        else
        {
            Copied += piece.Data;
        }

        _free.Push(index);
        _active--;
    }

    private DmaBufIoException Failed(in Piece piece, in RingCompletion completion)
    {
        IoFile file = piece.Writing ? _destination : _source;
        string what = piece.Writing ? "write" : "read";
        DmaBufIoException? map = _tokens.ConvertAll(static t => t.LastMapError).Find(static e => e is not null);
        return completion.Status == Errno.Ok
            ? new DmaBufIoException(Errno.EIO, "copy", file.Name, $"a {what} transferred {completion.Bytes} bytes of {piece.Length}", "Check that the device holds as many bytes as it says", range: $"{piece.Offset}+{piece.Length}")
            : new DmaBufIoException(completion.Status, "copy", file.Name, $"a {what} failed", "See what the device itself says, if it says anything", range: $"{piece.Offset}+{piece.Length}", inner: map);
    }

    private void Flush()
    {
        _ring.TryFlush(_destination, 0);
        _ring.Submit();
        _ring.Reap(_completions, 1);
        if (_completions[0].Status != Errno.Ok)
            throw new DmaBufIoException(_completions[0].Status, "copy", _destination.Name, "the flush failed", "What was written may not be durable: check the storage behind the device");
    }

    private static long WholeBlocks(long bytes, IoFile file) => (bytes + file.BlockSize - 1) / file.BlockSize * file.BlockSize;

    private readonly record struct Piece(long Offset, long Data, long Length, bool Writing);
}
