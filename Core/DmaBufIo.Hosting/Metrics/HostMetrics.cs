using System.Diagnostics.Metrics;
using DmaBufIo.Diagnostics;
using DmaBufIo.Io;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Hosting;

/// <summary>
/// The host's figures as instruments of the meter <c>DmaBufIo</c>. All of them are observed: somebody asks for a value, and the counts that rings keep anyway are added up then. The request path does
/// not know that there is a meter.
/// </summary>
internal sealed class HostMetrics : IDisposable
{
    private readonly Meter _meter;

    internal HostMetrics(DmaBufIoHost host, IServiceProvider services)
    {
        var options = new MeterOptions("DmaBufIo") { Version = typeof(HostMetrics).Assembly.GetName().Version?.ToString() };
        _meter = services.GetService<IMeterFactory>()?.Create(options) ?? new Meter(options);

        // A sum over all rings per instrument and look: looks are seconds apart.
        Total("dmabufio.requests.submitted", "{request}", "Requests submitted by the rings of the host", static c => c.Requests);
        Total("dmabufio.requests.completed", "{request}", "Requests that were completed", static c => c.Completed);
        Total("dmabufio.requests.failed", "{request}", "Requests that ended with an error", static c => c.Failed);
        Total("dmabufio.requests.reissued", "{request}", "Requests that were sent back and issued again", static c => c.Reissued);
        Total("dmabufio.requests.bounced", "{request}", "Requests that went through a bounce pool", static c => c.Bounced);
        Total("dmabufio.io", "By", "Bytes moved by completed requests", static c => c.Bytes);
        Gauge("dmabufio.requests.in_flight", "{request}", "Requests in flight on the rings of the host", () => host.Rings.InFlight);
        Gauge("dmabufio.rings", "{ring}", "Rings of the host that are open", () => host.Rings.Rings.Count);
        Gauge("dmabufio.devices", "{device}", "Devices of the host that are open", () => host.Devices.Count);
        Gauge("dmabufio.buffers", "{buffer}", "Buffers of the host that are held", () => host.Buffers.Count);
        Gauge("dmabufio.plugins", "{plugin}", "Plugins that are loaded", () => host.Plugins.All.Count(static p => p.State != PluginState.Refused));

        // Those are counted for the process: several hosts in one report the same.
        Count("dmabufio.process.maps", "{map}", "Maps made", Counters.Maps);
        Count("dmabufio.process.unmaps", "{map}", "Maps given up", Counters.Unmaps);
        Count("dmabufio.process.tokens", "{token}", "Tokens created", Counters.Tokens);
        Count("dmabufio.process.tokens.released", "{token}", "Tokens whose release has finished", Counters.TokensReleased);
        Count("dmabufio.process.barriers", "{barrier}", "Process-wide barriers paid", Counters.Barriers);
        Count("dmabufio.process.member_faults", "{fault}", "Parts of requests that failed on a member of a set", Counters.MemberFaults);
        Count("dmabufio.process.driver_faults", "{fault}", "Callbacks of drivers that threw", Counters.DriverFaults);
        Count("dmabufio.process.copied", "By", "Bytes of requests that the CPU has copied", Counters.BytesCopied);

        void Total(string name, string unit, string description, Func<IoCounters, long> value) =>
            _meter.CreateObservableCounter(name, () => value(host.Rings.Totals()), unit, description);

        void Gauge(string name, string unit, string description, Func<int> value) =>
            _meter.CreateObservableUpDownCounter(name, value, unit, description);

        void Count(string name, string unit, string description, Counter counter) =>
            _meter.CreateObservableCounter(name, () => counter.Value, unit, description);
    }

    /// <summary>Ends the instruments. A meter of a factory is the factory's to dispose; disposing it twice does no harm.</summary>
    public void Dispose() => _meter.Dispose();
}
