using DmaBufIo.Errors;

namespace DmaBufIo.Rings;

/// <summary>How an awaited request ended.</summary>
/// <param name="Status"><c>Ok</c>, or the first error. <c>EAGAIN</c>: it was not taken or not issued, and may be asked for again; <c>EINTR</c>: it was cancelled before it was issued.</param>
/// <param name="Bytes">Bytes transferred; fewer than asked for at the end of the file.</param>
public readonly record struct IoStatus(Errno Status, long Bytes);
