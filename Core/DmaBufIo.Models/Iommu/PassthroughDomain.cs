using DmaBufIo.Dma;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>
/// Passthrough mode: device addresses are physical addresses and every region is reachable, mapped or not. The shadow
/// record alone tells whether an access had a live mapping to stand on.
/// </summary>
internal sealed class PassthroughDomain : IommuDomain
{
    private MappingRecord? _lastUsed;

    public PassthroughDomain(ModelIommu owner, string deviceName, PhysicalMemory memory)
        : base(owner, deviceName, memory)
    {
    }

    public override ulong Establish(in MemoryRange memory, DmaDirection direction) => Physical.BaseOf(memory.Region) + (ulong)memory.Offset;

    public override void Revoke(MappingRecord record)
    {
        if (_lastUsed == record)
            _lastUsed = null;
        Shadow.Recycle(record);
    }

    public override void Clear() => _lastUsed = null;

    protected override void TranslateWithin(ulong address, long length, DmaDirection access, out Translation translation)
    {
        MappingRecord? record = _lastUsed;
        if (record is null || !record.Covers(address) || !record.Permits(access))
        {
            record = Shadow.Live.Find(address, access);
            if (record is null)
            {
                TranslateUncovered(address, length, out translation);
                return;
            }

            _lastUsed = record;
        }

        translation = new Translation
        {
            Record = record,
            Region = record.Region,
            Offset = record.RegionOffset + (long)(address - record.Start),
            Length = (int)Math.Min((ulong)length, record.End - address),
        };
    }

    private void TranslateUncovered(ulong address, long length, out Translation translation)
    {
        MappingRecord? against = Shadow.Live.Find(address);
        MappingRecord? record = against ?? Shadow.FindEnded(address);
        if (!Physical.TryFind(address, out MemoryRegion? region, out long offset))
        {
            translation = Translation.Refused(AccessProblem.NotMapped, record);
            return;
        }

        // Up to where the answer may change: the end of the region or of the mapping that was named, or the next live mapping.
        ulong room = Math.Min((ulong)(region!.Length - offset), Shadow.Live.NextStart(address) - address);
        if (record is not null)
            room = Math.Min(room, record.End - address);
        translation = new Translation
        {
            Problem = against is not null ? AccessProblem.ServedAgainstDirection
                : record is not null ? AccessProblem.ServedAfterUnmap
                : AccessProblem.ServedUnmapped,
            Record = record,
            Region = region,
            Offset = offset,
            Length = (int)Math.Min((ulong)length, room),
        };
    }
}
