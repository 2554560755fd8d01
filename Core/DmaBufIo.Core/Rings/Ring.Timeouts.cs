using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>
/// Requests that run out of time. No timer per request and no allocation: each look of the ring compares deadlines with the clock, as long as there
/// are requests that have one. Only a wait for a map, which sleeps, needs a timer.
/// </content>
public sealed partial class Ring
{
    private static readonly TimeSpan s_shortestMapWait = TimeSpan.FromMilliseconds(10);
    private bool _mapComesLater;

    private int _timed; // awaited requests with a deadline

    /// <summary>Reads from a file into a registered buffer, if that begins in time; see <see cref="ReadFixedAsync(IoFile, int, long, long, long, CancellationToken)"/>.</summary>
    /// <param name="file">The file the buffer was registered with.</param>
    /// <param name="slot">The buffer's slot.</param>
    /// <param name="bufferOffset">First byte in the buffer; a multiple of 4 (R2).</param>
    /// <param name="length">Bytes, a multiple of the file's block; 0 succeeds and moves nothing.</param>
    /// <param name="fileOffset">First byte in the file, a multiple of its block.</param>
    /// <param name="timeout">
    /// How long the request may take to be issued, from this call on: 0 to 24 days, or <see cref="Timeout.InfiniteTimeSpan"/>. It goes before
    /// <see cref="RingOptions.RequestTimeout"/>.
    /// </param>
    /// <param name="cancellationToken">Ends the request with <c>EINTR</c> as long as it was not issued.</param>
    /// <returns>
    /// The result; await it once. <c>ETIMEDOUT</c>: the time was up before the request was issued, and not a byte was moved: it was prepared and
    /// not submitted, waited for a map, or was sent back for want of room.
    /// </returns>
    /// <remarks>
    /// A request that was issued, wholly or in part, cannot be taken from the device: the buffer belongs to the device until it has completed
    /// (T16, T18). Ending the await earlier would tell the caller that the memory is its own again while the device may still write into it, so
    /// the await ends when the device has ended the request, late or not, with the device's result. That a device answers at all is its driver's to
    /// see to: it has limits of its own, resets what does not answer and ends the requests with <c>ETIMEDOUT</c> or <c>ECANCELED</c>, once, when the device
    /// no longer reaches their memory (T11, N8). Who only wants to stop waiting leaves the task to itself and keeps the buffer until it has ended.
    /// Deadlines are looked at whenever the ring looks at its devices (<see cref="Drive"/>, <see cref="Reap(Span{RingCompletion}, int, CancellationToken)"/>,
    /// <see cref="Submit"/>, or its driver thread), by the clock of <see cref="RingOptions.TimeProvider"/>. Nothing is allocated for them, except
    /// for a request that has to wait for a map.
    /// </remarks>
    /// <exception cref="ArgumentOutOfRangeException">The timeout is negative or too long.</exception>
    /// <exception cref="ObjectDisposedException">The ring is being disposed.</exception>
    public ValueTask<IoStatus> ReadFixedAsync(
        IoFile file, int slot, long bufferOffset, long length, long fileOffset, TimeSpan timeout, CancellationToken cancellationToken = default) =>
        BeginAsync(new AsyncCall(RingOperation.ReadFixed, file, slot, bufferOffset, length, fileOffset), timeout, cancellationToken);

    /// <summary>Writes from a registered buffer to a file, if that begins in time; see <see cref="ReadFixedAsync(IoFile, int, long, long, long, TimeSpan, CancellationToken)"/>.</summary>
    /// <param name="file">The file the buffer was registered with.</param>
    /// <param name="slot">The buffer's slot.</param>
    /// <param name="bufferOffset">First byte in the buffer.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="fileOffset">First byte in the file.</param>
    /// <param name="timeout">How long the request may take to be issued.</param>
    /// <param name="cancellationToken">Ends the request with <c>EINTR</c> as long as it was not issued.</param>
    /// <returns>The result; await it once.</returns>
    public ValueTask<IoStatus> WriteFixedAsync(
        IoFile file, int slot, long bufferOffset, long length, long fileOffset, TimeSpan timeout, CancellationToken cancellationToken = default) =>
        BeginAsync(new AsyncCall(RingOperation.WriteFixed, file, slot, bufferOffset, length, fileOffset), timeout, cancellationToken);

    /// <summary>Makes everything durable that completed before, if that begins in time; see <see cref="ReadFixedAsync(IoFile, int, long, long, long, TimeSpan, CancellationToken)"/>.</summary>
    /// <param name="file">The file.</param>
    /// <param name="timeout">How long the request may take to be issued.</param>
    /// <param name="cancellationToken">Ends the request with <c>EINTR</c> as long as it was not issued.</param>
    /// <returns>The result; await it once.</returns>
    public ValueTask<IoStatus> FlushAsync(IoFile file, TimeSpan timeout, CancellationToken cancellationToken = default) =>
        BeginAsync(new AsyncCall(RingOperation.Flush, file, -1, 0, 0, 0), timeout, cancellationToken);

    private long DeadlineIn(TimeSpan timeout)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(timeout, TimeSpan.Zero);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(timeout, RingOptions.LongestTimeout);
        TimeProvider clock = _options.TimeProvider;
        return clock.GetTimestamp() + (long)Math.Ceiling(timeout.TotalSeconds * clock.TimestampFrequency);
    }

    /// <summary>The clock, as far as anybody wants to know.</summary>
    private long TimeNow() => _timed != 0 ? _options.TimeProvider.GetTimestamp() : 0;

    /// <summary>Waits for a map for as long as the request has time.</summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private Errno GetMapTimed(AsyncRequest awaited, DmaBufToken token, out DmaMap? map, CancellationToken cancellationToken)
    {
        map = null;
        TimeProvider clock = _options.TimeProvider;
        long now = clock.GetTimestamp();
        if (now >= awaited.Deadline)
            return Errno.ETIMEDOUT;
        using var timer = new CancellationTokenSource(clock.GetElapsedTime(now, awaited.Deadline), clock);
        using var any = CancellationTokenSource.CreateLinkedTokenSource(timer.Token, awaited.Cancellation, cancellationToken);
        Errno status = GetMapSlow(token, out map, any.Token);
        return status == Errno.EINTR && timer.IsCancellationRequested && !awaited.Cancellation.IsCancellationRequested ? Errno.ETIMEDOUT : status;
    }

    /// <summary>
    /// Waits for a map for a moment, and then lets the ring see to its other requests, whose times and cancellations nobody else looks at: the request is parked and waits again after them. Each
    /// wait is longer than the one before, for who waits anew is the last in the line for the buffer's lock.
    /// </summary>
    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    private Errno GetMapBetween(AsyncRequest awaited, DmaBufToken token, out DmaMap? map, CancellationToken cancellationToken)
    {
        using var moment = new CancellationTokenSource(s_shortestMapWait * (1 << Math.Min(awaited.MapWaits++, 4)));
        using var call = CancellationTokenSource.CreateLinkedTokenSource(moment.Token, awaited.Cancellation, cancellationToken);
        Errno status = awaited.Deadline != AsyncRequest.NoDeadline ? GetMapTimed(awaited, token, out map, call.Token) : GetMapSlow(token, out map, call.Token);
        _mapComesLater = status == Errno.EINTR && moment.IsCancellationRequested && !awaited.Cancellation.IsCancellationRequested && !cancellationToken.IsCancellationRequested;
        return status;
    }

    /// <summary>The request waits for its map again when the others have been looked at: that needs no room, so nobody announces it.</summary>
    private void ParkForMap(int tag)
    {
        Park(tag);
        _roomMade = true;
    }
}
