using System.Diagnostics.Metrics;
using DmaBufIo.Hosting;

namespace DmaBufIo.Docs.Tests;

/// <summary>docs/hosting.md lists the instruments of the meter, and no others.</summary>
public sealed class MetricTableTests
{
    [Fact]
    public void The_table_of_instruments_is_what_the_meter_has()
    {
        var found = new HashSet<string>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, _) =>
            {
                if (instrument.Meter.Name == "DmaBufIo")
                    found.Add($"{instrument.Name} {instrument.Unit} {instrument.Description}");
            },
        };
        listener.Start();
        using (DmaBufIoHost.Create(new DmaBufIoOptions { LoadPluginFolder = false }))
        {
            IEnumerable<string> listed = Repository.Table(Repository.Page("hosting.md"), "## Figures").Select(static r => $"{r[0].Trim('`')} {r[1].Trim('`')} {r[2]}");
            Assert.Equal(found.Order(StringComparer.Ordinal), listed.Order(StringComparer.Ordinal));
        }
    }
}
