using System.Runtime.CompilerServices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>
/// The way of a bounced request: one reference on the CPU's map and one piece of the pool for the whole of it (T16), and the data piece by piece.
/// <code>
///   pool, piece, reference → (write: copy buffer to piece) → file → all bios of the piece have ended → (read: copy piece to buffer) → next piece …
///                                                                                                    → piece given back, reference dropped, completion (T18)
/// </code>
/// All copying is done holding the reference, so the buffer lies still (F7), and takes no lock: it may happen in a visit (T14). A bounced request stays among those in part for as long as it
/// holds a piece, and is looked at whenever the ring looks at its devices: the end of bios need not know of it.
/// </content>
public sealed partial class Ring
{
    /// <summary>
    /// Begins a bounced request, which holds nothing. On return it is under way, parked, or ended. May sleep, like <see cref="IssueSlow"/>.
    /// </summary>
    /// <param name="tag">The request; in no queue.</param>
    /// <param name="cause">The error that a copy is to cure.</param>
    /// <param name="isRetry">It was parked before this call.</param>
    /// <param name="cancellationToken">Interrupts the wait for a map.</param>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void IssueBounced(int tag, Errno cause, bool isRetry, CancellationToken cancellationToken)
    {
        Registration registration = RegistrationOf(_requests[tag])!;
        BouncedRequest bounced = BouncedAt(tag);
        bounced.Reason = ReasonFor(cause);
        bounced.WaitsForPiece = false;

        // Looked at for the whole: the first pieces of a request that the file refuses must not have moved.
        long length = _requests[tag].IsVector ? LengthOf(_ranges[tag]) : _ios[tag].Iter.Count;
        if (_ios[tag].FileOffset < 0 || _ios[tag].FileOffset % registration.File.BlockSize != 0 || length % registration.File.BlockSize != 0)
        {
            EndUnbounced(tag, Errno.EINVAL);
            return;
        }

        // Memory and the piece come before the reference (T15, T16).
        Errno status = AllocatePool();
        if (status != Errno.Ok)
        {
            EndUnbounced(tag, status);
            return;
        }

        if (!_pool!.HasFree)
        {
            bounced.WaitsForPiece = true;
            Park(tag);
            return;
        }

        DmaBufToken token = registration.Bounce!.Token;
        DmaMap? map = token.TryGetMap(_context);
        if (map is null)
        {
            status = GetMapAwaited(tag, token, out map, cancellationToken);
            if (status == Errno.EINTR && _mapComesLater)
            {
                ParkForMap(tag);
                return;
            }

            if (status == Errno.EINTR && isRetry && cancellationToken.IsCancellationRequested && !IsCancelled(tag))
            {
                Park(tag); // as in IssueSlow
                return;
            }

            if (status != Errno.Ok)
            {
                // Where the CPU has no way either, the device's answer is the one to tell.
                EndUnbounced(tag, status == Errno.EOPNOTSUPP ? cause : status);
                return;
            }
        }

        _requests[tag].Use = BounceUseOf(registration, map!).Id;
        _requests[tag].State = RequestState.Bounced;
        Begin(tag, bounced, map!);
    }

    /// <summary>The request holds its reference: takes a piece, and gives the first part of its data to the file.</summary>
    private void Begin(int tag, BouncedRequest bounced, DmaMap map)
    {
        ref IoRequest io = ref _ios[tag];
        long offset = io.Iter.Offset;
        long count = io.Iter.Count;
        DmaDirection direction = _requests[tag].Direction;
        bounced.Piece = _pool!.Take();
        bounced.HasBegun = true;
        bounced.PieceStart = 0;
        bounced.PieceLength = 0;
        _context.Counters.Bounced++;
        try
        {
            bounced.Buffer = _requests[tag].IsVector ? IovIter.ForMapRanges(map, _ranges[tag], direction) : IovIter.ForMap(map, offset, count, direction);
            StartPiece(tag, bounced);
            if (GivePiece(tag) == Errno.EAGAIN && io.Pending == 0 && io.Transferred == 0)
            {
                // No room before the first bio: everything is given up, and the request waits without it (T16).
                io.Iter.SetRange(offset, count, direction);
                bounced.HasBegun = false;
                _context.Counters.Bounced--;
                ReturnPiece(bounced);
                DmaBufToken.Drop(map, _context);
                _requests[tag].Use = RegistrationOf(_requests[tag])!.Bare!.Id;
                Park(tag);
                return;
            }

            GoOn(tag, bounced);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            FaultBounced(tag, bounced, e);
        }
    }

    /// <summary>A bounced request is looked at: bios of its piece may have ended, and the file may have room for the rest of it.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void ContinueBounced(int tag)
    {
        BouncedRequest bounced = _bounced![tag]!;
        try
        {
            if (_ios[tag].Status == Errno.Ok && _ios[tag].Iter.Count > 0)
                GivePiece(tag);
            GoOn(tag, bounced);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            FaultBounced(tag, bounced, e);
        }
    }

    private void GoOn(int tag, BouncedRequest bounced)
    {
        while (!IsUnderWay(_ios[tag]))
        {
            if (!EndPiece(tag, bounced))
            {
                EndBounced(tag, bounced);
                return;
            }

            StartPiece(tag, bounced);
            GivePiece(tag);
        }

        _partial.Add(tag);
    }

    private static bool IsUnderWay(in IoRequest io) => io.Pending != 0 || (io.Status == Errno.Ok && io.Iter.Count > 0);

    private void StartPiece(int tag, BouncedRequest bounced)
    {
        ref IoRequest io = ref _ios[tag];
        DmaDirection direction = _requests[tag].Direction;
        int block = RegistrationOf(_requests[tag])!.File.BlockSize;
        int length = (int)Math.Min(_pool!.PieceSize / block * block, bounced.Buffer.Count);
        bounced.PieceLength = length;
        bounced.PieceStart = io.Transferred;
        if (direction == DmaDirection.ToDevice)
            Copy(ref bounced.Buffer, _pool.Span(bounced.Piece, length));
        io.Iter = IovIter.ForMemory(_pool.Memory, bounced.Piece, length, direction);
    }

    private Errno GivePiece(int tag)
    {
        RegistrationOf(_requests[tag])!.RingFile.IsTouched = true;
        Errno status = GiveToFile(tag);
        if (status is not (Errno.Ok or Errno.EAGAIN) && _ios[tag].Status == Errno.Ok)
        {
            // A write that crosses the end is short, as it is in one piece.
            if (status == Errno.ENOSPC && _ios[tag] is { Pending: 0, Transferred: > 0 })
                _ios[tag].Iter = default;
            else
                _ios[tag].Status = status;
        }

        return status;
    }

    /// <summary>All bios of the piece have ended: a read's bytes go where they belong.</summary>
    /// <returns>True when the request goes on with another piece: nothing failed, and nothing came short.</returns>
    private bool EndPiece(int tag, BouncedRequest bounced)
    {
        ref IoRequest io = ref _ios[tag];
        int moved = (int)Math.Min(io.Transferred - bounced.PieceStart, bounced.PieceLength);
        if (_requests[tag].Direction == DmaDirection.FromDevice)
        {
            // Which bytes of a piece have come when a part of it failed is not known: none of them is handed on, and none is counted.
            if (io.Status != Errno.Ok)
                io.Transferred = bounced.PieceStart;
            else
                Copy(ref bounced.Buffer, _pool!.Span(bounced.Piece, moved));
        }

        return io.Status == Errno.Ok && moved == bounced.PieceLength && bounced.Buffer.Count > 0;
    }

    /// <summary>Copies between the buffer, from where the iterator stands, and a piece: out for a write, in for a read. The request holds its reference.</summary>
    private static void Copy(ref IovIter buffer, Span<byte> piece)
    {
        var map = (BounceMap)buffer.Map!;
        while (!piece.IsEmpty)
        {
            BufferRange range = buffer.CurrentRange;
            Span<byte> part = piece[..(int)Math.Min(range.Length, piece.Length)];
            if (buffer.Direction == DmaDirection.ToDevice)
                map.CopyOut(range.Offset, part);
            else
                map.CopyIn(range.Offset, part);
            buffer.Advance(part.Length);
            piece = piece[part.Length..];
        }
    }

    private void EndBounced(int tag, BouncedRequest bounced)
    {
        _context.Counters.BouncedBytes += _ios[tag].Transferred;
        ReturnPiece(bounced);
        _ios[tag].Iter = default;
        End(tag);
    }

    /// <summary>Ends a request that was not bounced after all, and holds nothing.</summary>
    private void EndUnbounced(int tag, Errno status)
    {
        _ios[tag].Iter = default;
        _ios[tag].Status = status;
        End(tag);
    }

    /// <summary>What the file, its driver or the application's ranges threw. A piece whose bios have not all ended is waited for.</summary>
    private void FaultBounced(int tag, BouncedRequest bounced, Exception exception)
    {
        ref RingRequest request = ref _requests[tag];
        ref IoRequest io = ref _ios[tag];
        DmaBufIoDiagnostics.Report(new DriverFault($"{request.Operation} of {request.File?.Name}, bounced", exception));
        if (io.Status == Errno.Ok)
            io.Status = Errno.EIO;
        if (io.Pending != 0)
        {
            _partial.Add(tag);
            return;
        }

        if (request.Direction == DmaDirection.FromDevice)
            io.Transferred = bounced.PieceStart; // not copied, or not all of it
        EndBounced(tag, bounced);
    }

    /// <summary>What a completion says of its request, whose place is given back.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private BounceReason TakeBounceReason(int tag)
    {
        if (_bounced![tag] is not { } bounced)
            return BounceReason.None;
        BounceReason reason = bounced.HasBegun ? bounced.Reason : BounceReason.None;
        bounced.Reason = BounceReason.None;
        bounced.HasBegun = false;
        bounced.WaitsForPiece = false;
        return reason;
    }

    private void Park(int tag)
    {
        _requests[tag].State = RequestState.Parked;
        _parked.Add(tag);
    }

    private void ReturnPiece(BouncedRequest bounced)
    {
        if (bounced.HasPiece)
            _pool!.Return(bounced.Piece);
        bounced.DropPiece();
        _roomMade = true;
    }

    private Errno AllocatePool()
    {
        if (_pool is not null)
            return Errno.Ok;
        try
        {
            _pool = new BouncePool(Name, _options.BouncePoolSize);
            return Errno.Ok;
        }
        catch (DmaBufIoException e)
        {
            return e.Errno;
        }
    }

    private MapUse BounceUseOf(Registration registration, DmaMap map)
    {
        BouncePath path = registration.Bounce!;
        return path.Use is { } use && ReferenceEquals(use.Map, map) ? use : path.Use = NewUse(registration, map);
    }

    private static long LengthOf(ReadOnlyMemory<BufferRange> ranges)
    {
        long length = 0;
        foreach (BufferRange range in ranges.Span)
            length += range.Length;
        return length;
    }
}
