using DmaBufIo.Files;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>The exporter that makes a mistake where it is told to, and is correct else.</summary>
internal sealed class FaultyExporterFixture(string? fault, string shape = "", TimeSpan? patience = null) : IExporterFixture
{
    public TimeSpan? Patience => patience;

    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyExporter");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-exporter:fault"] = fault };

    public ExporterCapabilities Capabilities =>
        ExporterCapabilities.Moves | ExporterCapabilities.Pins | ExporterCapabilities.HostMemory | ExporterCapabilities.Jobs | ExporterCapabilities.Large;

    public ExporterTarget Create(ContractWorld world, string name, long size) => new(world.Host.CreateBuffer($"faulty{shape}", name, size));
}

/// <summary>The file that makes a mistake where it is told to, and is correct else.</summary>
internal sealed class FaultyFileFixture(string? fault, string options = "", string disk = "size=512K,max=8K") : IFileFixture
{
    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyFile");

    public IReadOnlyDictionary<string, string?> Settings => new Dictionary<string, string?> { ["faulty-file:fault"] = fault };

    public FileCapabilities Capabilities => FileCapabilities.Storage;

    public ImporterTarget Open(ContractWorld world, OpenFlags flags) => new StripedTarget(world, flags, options, disk);
}

/// <summary>The truth lies on the disks: stripes of 16 KiB in turn, behind a header of 64 KiB.</summary>
internal sealed class StripedTarget(ContractWorld world, OpenFlags flags, string options, string disk)
    : FileTarget(world, $"striped:data{options}@(puppet:a,{disk},puppet:b,{disk})", flags)
{
    private const int Header = 64 << 10;
    private const int Stripe = 16 << 10;

    public override void Give(long offset, ReadOnlySpan<byte> data)
    {
        for (int i = 0; i < data.Length; i++)
            At(offset + i) = data[i];
    }

    public override byte[] Take(long offset, int length)
    {
        byte[] found = new byte[length];
        for (int i = 0; i < length; i++)
            found[i] = At(offset + i);
        return found;
    }

    private ref byte At(long offset)
    {
        int stripe = (int)(offset / Stripe);
        var disk = (PuppetBlockDevice)Device.Root.Members[stripe % 2].BlockDevices[0];
        return ref disk.Store[Header + (stripe / 2 * Stripe) + (int)(offset % Stripe)];
    }
}

[Trait("Duration", "Minutes")]
public sealed class CorrectFaultyExporterTests() : ExporterContract(new FaultyExporterFixture(null));

public sealed class CorrectFaultyFileTests() : FileContract(new FaultyFileFixture(null));
