namespace DmaBufIo.Rings;

/// <summary>What happens to a request that the device cannot do in the buffer's own memory.</summary>
public enum TransferPolicy
{
    /// <summary>Direct, or refused with the reason. The default.</summary>
    Direct,

    /// <summary>
    /// The CPU copies it through a bounded pool of aligned memory, piece by piece, and its completion says so (<see cref="RingCompletion.Bounce"/>). Everything else goes direct as ever.
    /// Errors that a copy does not cure stay what they are.
    /// </summary>
    /// <remarks>
    /// A registration that its file or driver refuses with <c>EOPNOTSUPP</c> or <c>EREMOTEIO</c> is bounced as a whole. A map that is refused so is not asked for again before the buffer has
    /// moved: until then requests are bounced. A request of whole blocks that the file answers <c>EINVAL</c>, because its place in the buffer is not aligned, is bounced by itself.
    /// A file whose device takes the references on maps itself (<see cref="Files.IoFile.IsPaged"/>) stays direct.
    /// </remarks>
    AllowBounce,
}
