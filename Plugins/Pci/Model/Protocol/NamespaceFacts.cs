namespace DmaBufIo.Pci.Model.Protocol;

/// <summary>What Identify tells of namespace 1.</summary>
/// <param name="Blocks">Capacity in logical blocks.</param>
/// <param name="LbaShift">Log2 of the block size.</param>
/// <param name="ReadOnly">Write-protected.</param>
/// <param name="UniqueId">NGUID and UUID.</param>
internal sealed record NamespaceFacts(ulong Blocks, int LbaShift, bool ReadOnly, Guid UniqueId);
