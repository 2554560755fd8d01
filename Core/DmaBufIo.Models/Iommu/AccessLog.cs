using DmaBufIo.Dma;

namespace DmaBufIo.Models.Iommu;

/// <summary>Counts all bad accesses of one IOMMU and keeps the first of them.</summary>
/// <remarks>Its lock is innermost: taken under a domain's gate, and nothing is taken under it.</remarks>
internal sealed class AccessLog
{
    // The first reports name the cause, later ones its echoes.
    private const int Kept = 1000;

    private readonly Lock _gate = new();
    private readonly List<IommuAccessReport> _reports = [];
    private readonly IommuMode _mode;
    private long _count;
    private long _faults;
    private long _stale;

    public AccessLog(IommuMode mode) => _mode = mode;

    public long Faults => Volatile.Read(ref _faults);

    public long StaleAccesses => Volatile.Read(ref _stale);

    public IommuAccessReport[] ToSnapshot()
    {
        lock (_gate)
            return [.. _reports];
    }

    public void Record(
        string device, AccessProblem problem, ulong address, long length, DmaDirection direction, MappingRecord? record, string? region)
    {
        IommuReportKind kind = AccessProblems.KindOf(problem, record);
        lock (_gate)
        {
            long sequence = ++_count;
            if ((kind & IommuReportKind.Fault) != 0)
                Volatile.Write(ref _faults, _faults + 1);
            if ((kind & IommuReportKind.Stale) != 0)
                Volatile.Write(ref _stale, _stale + 1);
            if (_reports.Count == Kept)
                return;
            (string reason, string? rule, string remedy) = AccessProblems.Describe(problem, record, _mode);
            _reports.Add(new IommuAccessReport(
                sequence,
                kind,
                device,
                address,
                length,
                direction,
                record?.Purpose,
                record?.Generation ?? 0,
                record?.RegionName ?? region,
                reason,
                rule,
                remedy));
        }
    }
}
