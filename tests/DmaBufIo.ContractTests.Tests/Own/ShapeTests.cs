namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>One bio at a time, in large blocks.</summary>
public sealed class OneAtATimeBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",lba=4096,depth=1"));

/// <summary>The largest blocks that there are, on the smallest device.</summary>
public sealed class HugeBlocksBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",lba=64K,max=64K", "1M"));

/// <summary>One page and one segment for each bio.</summary>
public sealed class OnePageBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",max=4K,segments=1,align=512", "1M"));

/// <summary>Memory at whole pages alone, in blocks of 512 bytes.</summary>
public sealed class WholePagesBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",align=4096,max=8K"));

/// <summary>Bios have ended when Submit returns.</summary>
public sealed class EndsInSubmitBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",ends=submit"));

/// <summary>Bios have ended when Commit returns.</summary>
public sealed class EndsInCommitBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",ends=commit,depth=5"));

/// <summary>Bios end on a thread of the disk's own, the last of a batch first.</summary>
public sealed class EndsBackwardsBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",ends=backwards"));

/// <summary>The same two at a time, in large blocks.</summary>
public sealed class TwoBackwardsBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",lba=4096,max=16K,depth=2,ends=backwards"));

/// <summary>Every bio takes its time, and little patience is needed for any one of them.</summary>
[Trait("Duration", "Minutes")]
public sealed class SlowBlockDeviceTests() : BlockDeviceContract(new FaultyDiskFixture(null, ",slow=5", patience: TimeSpan.FromSeconds(3)));

/// <summary>The disk as an importer.</summary>
internal sealed class ShapedImporterFixture(string shape, ImporterCapabilities more = ImporterCapabilities.None, string size = "4M", TimeSpan? patience = null) : IImporterFixture
{
    public TimeSpan? Patience => patience;

    public string? PluginFolder => PluginFolders.Of("DmaBufIo.Fixtures.FaultyBlockDevice");

    public ImporterCapabilities Capabilities =>
        more | ImporterCapabilities.Remove | ImporterCapabilities.Reset | ImporterCapabilities.KeepsData | ImporterCapabilities.Vectors | ImporterCapabilities.MovesData | ImporterCapabilities.Interrupts;

    public ImporterTarget Open(ContractWorld world) => new BlockDeviceTarget(world, $"faulty:{size}{shape}");
}

[Trait("Duration", "Minutes")]
public sealed class OneAtATimeImporterTests() : ImporterContract(new ShapedImporterFixture(",lba=4096,depth=1"));

[Trait("Duration", "Minutes")]
public sealed class HugeBlocksImporterTests() : ImporterContract(new ShapedImporterFixture(",lba=64K", size: "64M"));

[Trait("Duration", "Minutes")]
public sealed class TwoAtATimeImporterTests() : ImporterContract(new ShapedImporterFixture(",depth=2,ends=backwards", ImporterCapabilities.WorksAlone));

[Trait("Duration", "Minutes")]
public sealed class OnePageImporterTests() : ImporterContract(new ShapedImporterFixture(",max=4K,segments=1,align=512"));

[Trait("Duration", "Minutes")]
public sealed class EndsInSubmitImporterTests() : ImporterContract(new ShapedImporterFixture(",ends=submit"));

[Trait("Duration", "Minutes")]
public sealed class EndsBackwardsImporterTests() : ImporterContract(new ShapedImporterFixture(",lba=4096,max=16K,ends=backwards", ImporterCapabilities.WorksAlone));

/// <summary>It maps a buffer when it is registered, to look at it, and keeps descriptors from the first map on.</summary>
[Trait("Duration", "Minutes")]
public sealed class LooksAndPoolsImporterTests() : ImporterContract(new ShapedImporterFixture(",looks=on,pool=on"));

/// <summary>Neighbours go in one DMA, and two queues are all.</summary>
[Trait("Duration", "Minutes")]
public sealed class GathersImporterTests() : ImporterContract(new ShapedImporterFixture(",gathers=on,queues=2"));

/// <summary>A disk that does one request at a time, and each in its time.</summary>
[Trait("Duration", "Minutes")]
public sealed class SlowImporterTests() : ImporterContract(new ShapedImporterFixture(",slow=2,depth=1", ImporterCapabilities.Quiet, patience: TimeSpan.FromSeconds(2)));

/// <summary>A file whose memory must be aligned to its blocks.</summary>
public sealed class AlignedFileTests() : FileContract(new FaultyFileFixture(null, ",align=512"));

/// <summary>A file in large blocks.</summary>
public sealed class LargeBlocksFileTests() : FileContract(new FaultyFileFixture(null, ",block=16K", "size=1M,lba=4096,max=16K"));

/// <summary>A file that is much larger than the buffers of the contract.</summary>
[Trait("Duration", "Minutes")]
public sealed class LargeFileTests() : FileContract(new FaultyFileFixture(null, disk: "size=8M,max=64K"));

/// <summary>A file that flushes its disks in an order.</summary>
public sealed class FlushesInTurnFileTests() : FileContract(new FaultyFileFixture(null, ",flushes=on"));

/// <summary>A function with a clock.</summary>
public sealed class ClockFunctionTests() : PciFunctionContract(new FaultyFunctionFixture(null, ",clock=on"));

/// <summary>A function that tells by an interrupt that it is ready.</summary>
public sealed class EventsFunctionTests() : PciFunctionContract(new FaultyFunctionFixture(null, ",events=on"));

/// <summary>Every job takes its time.</summary>
[Trait("Duration", "Minutes")]
public sealed class SlowExporterTests() : ExporterContract(new FaultyExporterFixture(null, ":slow=15", TimeSpan.FromSeconds(3)));

/// <summary>A thread of the exporter's own moves the buffer, and the caller joins it.</summary>
public sealed class MoverExporterTests() : ExporterContract(new FaultyExporterFixture(null, ":mover=on"));

/// <summary>A thread of the plugin ends a while after it was told to.</summary>
public sealed class HousekeepingPluginTests() : PluginContract(new FaultyPluginFixture("housekeeping"));

/// <summary>One of its options makes a disk that nobody may write.</summary>
public sealed class ReadOnlyOptionPluginTests() : PluginContract(new OwnPlugin(
    "DmaBufIo.Fixtures.FaultyBlockDevice",
    [],
    static _ => ["faulty:4M,ro=on,lba=4096,max=64K,segments=4,align=512,depth=3,ends=commit,slow=0,looks=on,pool=on,gathers=on,queues=9", "faulty-stack(puppet:a)"],
    static _ => ["faulty:lots"]));
