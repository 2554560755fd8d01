using System.Globalization;
using System.Text;
using DmaBufIo.Dma;

namespace DmaBufIo.Models.Iommu;

/// <summary>One access that a device should not have made: who, where, when, and through which mapping.</summary>
/// <param name="Sequence">Number of the report among all of one IOMMU, from 1, in the order in which they were recorded.</param>
/// <param name="Kind">Whether it was refused, stale, or both.</param>
/// <param name="Device">The device's name.</param>
/// <param name="Address">First device address concerned, in bytes; the part of the DMA before it was served.</param>
/// <param name="Length">Bytes concerned: for a fault all that was left of the DMA, otherwise the piece that was served.</param>
/// <param name="Direction">
/// <see cref="DmaDirection.ToDevice"/>: the device read memory; <see cref="DmaDirection.FromDevice"/>: it wrote.
/// </param>
/// <param name="Purpose">What the mapping was for; the ended one for a stale access. Null when none is known for the address.</param>
/// <param name="Generation">Generation of the map that the mapping belonged to; 0 when it belonged to none.</param>
/// <param name="Region">Name of the memory region behind the address. Null when none is known.</param>
/// <param name="Reason">What was wrong, as a clause.</param>
/// <param name="Rule">The rule of the protocol that was broken, or null.</param>
/// <param name="Remedy">What to do about it, as a sentence without a full stop.</param>
public sealed record IommuAccessReport(
    long Sequence,
    IommuReportKind Kind,
    string Device,
    ulong Address,
    long Length,
    DmaDirection Direction,
    string? Purpose,
    long Generation,
    string? Region,
    string Reason,
    string? Rule,
    string Remedy)
{
    /// <summary>The report as one line of text with device, address, mapping, generation, region, reason, rule and remedy.</summary>
    public override string ToString()
    {
        var text = new StringBuilder(240);
        text.Append("IOMMU report ").Append(Sequence).Append(", ").Append(KindText()).Append(": device ").Append(Device)
            .Append(Direction == DmaDirection.ToDevice ? " read " : " wrote ")
            .Append(CultureInfo.InvariantCulture, $"{Length} bytes at 0x{Address:x}");
        if (Purpose is not null)
            text.Append(CultureInfo.InvariantCulture, $", mapping \"{Purpose}\" of generation {Generation}");
        if (Region is not null)
            text.Append(", region ").Append(Region);
        text.Append(": ").Append(Reason);
        if (Rule is not null)
            text.Append(" (rule ").Append(Rule).Append(')');
        return text.Append(". ").Append(Remedy).Append('.').ToString();
    }

    private string KindText() => Kind switch
    {
        IommuReportKind.Fault => "fault",
        IommuReportKind.Stale => "stale access",
        _ => "fault of a stale access",
    };
}
