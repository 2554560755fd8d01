using System.Runtime.CompilerServices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>Registrations and requests that may be bounced (<see cref="TransferPolicy.AllowBounce"/>). How a bounced request goes on stands in Ring.Bounce.Path.cs.</content>
public sealed partial class Ring
{
    private BouncedRequest?[]? _bounced; // by place; made when the first request needs it
    private BouncePool? _pool;
    private bool _hasUnaligned; // some of the parked were found unaligned in this batch

    /// <summary>
    /// The token through which the CPU sees the buffer of a slot that was registered with <see cref="TransferPolicy.AllowBounce"/>, or null. Its map is made by the first request that is
    /// bounced; a ring with <see cref="RingOptions.NoWait"/> leaves that to the application.
    /// </summary>
    /// <param name="slot">The slot.</param>
    public DmaBufToken? BounceTokenAt(int slot) => (uint)slot < (uint)_slots.Length ? _slots[slot]?.Bounce?.Token : null;

    /// <summary>
    /// Why the requests of a slot are bounced as a whole: what the file, the driver or the exporter has answered to the registration, or to the last attempt to map the buffer where it is now.
    /// </summary>
    /// <param name="slot">The slot.</param>
    /// <returns>Null when requests go direct, when nothing was tried yet, and for an empty slot.</returns>
    public DmaBufIoException? DirectRefusalAt(int slot) => (uint)slot < (uint)_slots.Length ? _slots[slot]?.Bounce?.Refusal : null;

    /// <summary>Registers a buffer with the direct way if there is one, and with the CPU's in any case.</summary>
    private Registration RegisterBouncing(int slot, BufferRegistration registration, IoFile file, DmaBuf buffer)
    {
        int piece = BouncePool.PieceSizeOf(_options.BouncePoolSize);
        if (file.BlockSize > piece)
        {
            throw Refused(
                Errno.EINVAL, slot, $"a block of {file.Name} has {file.BlockSize} bytes, and a piece of the bounce pool {piece}", "Make the ring with a larger BouncePoolSize");
        }

        DmaBufToken? direct = null;
        MemoryLayout? pages = null;
        DmaBufIoException? refusal = null;
        try
        {
            if (registration.Mapping == BufferMapping.PerRequest)
                pages = PagesOf(slot, registration, file, buffer);
            else
                direct = file.OpenToken(buffer, registration.Direction, _options.Tokens);
        }
        catch (DmaBufIoException e) when (BouncePath.ReasonFor(e.Errno) != BounceReason.None)
        {
            refusal = e;
            if (DmaBuf.WhyNotByCpu(buffer, buffer.Describe()) is { } problem)
                throw new DmaBufIoException(e.Errno, e.Layer, e.Subject, $"{e.Problem}; it cannot be bounced either: {problem}", e.Remedy, e.Range, e.Rule, e);
        }

        DmaBufToken? bounce = null;
        try
        {
            bounce = file.OpenBounceToken(buffer, registration.Direction, _options.Tokens);
            RingFile ringFile = OpenFile(file);
            var path = new BouncePath(bounce, refusal);
            return direct is not null ? new Registration(direct, ringFile, registration.Tag) { Bounce = path }
                : pages is not null ? new Registration(buffer, pages, registration.Direction, ringFile, PutWorkers, registration.Tag) { Bounce = path }
                : new Registration(path, ringFile, registration.Tag);
        }
        catch
        {
            direct?.Release();
            bounce?.Release();
            throw;
        }
    }

    /// <summary>The request has no device's map to go by: mapped for itself, or bounced because the registration was refused one.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void IssueWithoutToken(int tag, Registration registration, bool isRetry, CancellationToken cancellationToken)
    {
        if (registration.Memory is not null || registration.AnyToken is not null)
            IssuePerRequest(tag, registration);
        else
            IssueBounced(tag, registration.Bounce!.Refusal!.Errno, isRetry, cancellationToken);
    }

    /// <summary>The driver was asked for a map of the buffer where it lies, and has refused: it is not asked again.</summary>
    /// <returns>True when the request is bounced, parked or ended.</returns>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TryBounceUnmapped(int tag, BouncePath path, bool isRetry, CancellationToken cancellationToken)
    {
        if (path.Refusal is not { } refusal)
            return false;
        IssueBounced(tag, refusal.Errno, isRetry, cancellationToken);
        return true;
    }

    /// <summary>No map could be made for a request. Nothing is held for it.</summary>
    /// <param name="tag">The request.</param>
    /// <param name="registration">Its registration.</param>
    /// <param name="status">What the token has answered.</param>
    /// <param name="generation">The buffer's generation before it was asked.</param>
    /// <param name="isRetry">As for <see cref="IssueSlow"/>.</param>
    /// <param name="cancellationToken">As for <see cref="IssueSlow"/>.</param>
    /// <returns>True when the request is bounced, parked or ended.</returns>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TryBounceUnmappable(int tag, Registration registration, Errno status, long generation, bool isRetry, CancellationToken cancellationToken)
    {
        if (registration.Bounce is not { } path || BouncePath.ReasonFor(status) == BounceReason.None)
            return false;
        if (registration.Token!.LastMapError is { } refusal)
            path.Refuse(refusal, generation);
        IssueBounced(tag, status, isRetry, cancellationToken);
        return true;
    }

    /// <summary>
    /// The file has answered <c>EINVAL</c> to a request of which nothing was issued. If its place in the buffer may be what is wrong, it gives its reference up (T15: other requests of its run
    /// hold theirs, so nothing may sleep here) and is parked, to be bounced when the batch is issued.
    /// </summary>
    /// <returns>True when it was parked.</returns>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TryParkUnaligned(int tag)
    {
        ref RingRequest request = ref _requests[tag];
        ref IoRequest io = ref _ios[tag];
        if (RegistrationOf(request) is not { Bounce: not null } registration || request.State == RequestState.Partial || io.Pending != 0 || io.Transferred != 0)
            return false;
        if (!AreWholeBlocks(tag, registration.File) || !IsUnaligned(tag, registration))
            return false;
        if (_uses[request.Use]!.Map is { } map)
            DmaBufToken.Drop(map, _context);
        request.Use = registration.Bare!.Id;
        if (!request.IsVector)
            io.Iter.SetRange(io.Iter.Offset, io.Iter.Count, request.Direction);
        BouncedAt(tag).Reason = BounceReason.Unaligned;
        request.State = RequestState.Parked;
        _parked.Add(tag);
        _hasUnaligned = true;
        _roomMade = true; // it waits for nothing
        return true;
    }

    /// <summary>File offset and length are the file's to refuse, and the flag is (B5): a copy changes none of them.</summary>
    private bool AreWholeBlocks(int tag, IoFile file)
    {
        ref IoRequest io = ref _ios[tag];
        return file.Flags.HasFlag(OpenFlags.Direct) && io.FileOffset >= 0 && io.FileOffset % file.BlockSize == 0 && io.Iter.Count % file.BlockSize == 0;
    }

    // The file keeps to itself what alignment it needs. Pages satisfy all: a request that begins on one, in whole blocks, gains nothing from a copy. Memory that is mapped per request has joints
    // and begins anywhere.
    private bool IsUnaligned(int tag, Registration registration)
    {
        if (registration.Memory is not null)
            return true;
        if (!_requests[tag].IsVector)
            return _ios[tag].Iter.Offset % MemoryRegion.PageSize != 0;
        foreach (BufferRange range in _ranges[tag].Span)
        {
            if (range.Offset % MemoryRegion.PageSize != 0 || range.Length % registration.File.BlockSize != 0)
                return true;
        }

        return false;
    }

    /// <summary>The batch is issued, and nothing is held for requests that are not: those that were found unaligned begin.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void StartUnaligned(CancellationToken cancellationToken)
    {
        _hasUnaligned = false;
        for (int i = _parked.Count; i > 0; i--)
        {
            int tag = _parked.Take();
            if (_bounced![tag] is not { Reason: BounceReason.Unaligned, WaitsForPiece: false })
            {
                _parked.Add(tag);
                continue;
            }

            try
            {
                IssueBounced(tag, Errno.EINVAL, isRetry: false, cancellationToken);
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                Fault(tag, e);
            }
        }
    }

    /// <summary>A parked request comes again, on a ring that has bounced some. One that was refused a map looks again: the buffer may have moved.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void IssueParked(int tag, CancellationToken cancellationToken)
    {
        if (_bounced![tag] is { Reason: BounceReason.Unaligned })
        {
            IssueBounced(tag, Errno.EINVAL, isRetry: true, cancellationToken);
            return;
        }

        _bounced[tag]?.WaitsForPiece = false;
        IssueSlow(tag, isRetry: true, cancellationToken);
    }

    /// <summary>True for a parked request that its file did not send back: it waits for a piece, and others of the file need not wait for it.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool WaitsForPiece(int tag) => _bounced![tag] is { WaitsForPiece: true };

    private BouncedRequest BouncedAt(int tag)
    {
        _bounced ??= new BouncedRequest?[_requests.Length];
        return _bounced[tag] ??= new BouncedRequest();
    }

    private static BounceReason ReasonFor(Errno cause) => cause == Errno.EINVAL ? BounceReason.Unaligned : BouncePath.ReasonFor(cause);
}
