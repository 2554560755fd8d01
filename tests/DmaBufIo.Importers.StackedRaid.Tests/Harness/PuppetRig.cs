using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Importers.StackedRaid.Metadata;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.Importers.StackedRaid.Tests.Harness;

/// <summary>Members on strings: each part of a request is seen when it reaches its member, and ends when the test says so.</summary>
internal sealed class PuppetRig : IDisposable
{
    internal const int DeviceSize = 1 << 20;
    private readonly ModelIommu _iommu = new();

    internal PuppetRig(int members, QueueLimits? limits = null) => Members = [.. Enumerable.Range(0, members).Select(i =>
    {
        (Dma.DmaAddressSpace space, Dma.DmaPort port) = _iommu.AddDevice($"puppet{i}");
        return new PuppetBlockDevice($"puppet{i}", space, port, DeviceSize, limits ?? new QueueLimits(512) { MaxBytes = 128 << 10 });
    })];

    internal PuppetBlockDevice[] Members { get; }

    internal static Superblock NewestSuperblock(PuppetBlockDevice member)
    {
        long tail = MetadataLayout.TailOf(DeviceSize);
        return new[] { 0UL, 1UL }
            .Select(place => Superblock.Read(member.Store.Slice((int)MetadataLayout.SuperblockAt(tail, place), MetadataLayout.BlockSize)))
            .Where(static s => s is not null).MaxBy(static s => s!.Sequence)!;
    }

    /// <summary>The newest record of intents on a member, by region.</summary>
    internal static byte[] NewestIntents(PuppetBlockDevice member, out ulong number)
    {
        Superblock superblock = NewestSuperblock(member);
        long tail = MetadataLayout.TailOf(DeviceSize);
        byte[] newest = [];
        number = 0;
        for (ulong place = 0; place < 2; place++)
        {
            byte[] regions = new byte[(superblock.DataSize + superblock.RegionSize - 1) / superblock.RegionSize];
            bool isWhole = IntentRecord.TryRead(member.Store.Slice((int)MetadataLayout.IntentsAt(tail, place), MetadataLayout.BlockSize), superblock.Set, out ulong its, regions);
            if (isWhole && its >= number)
                (newest, number) = (regions, its);
        }

        return newest;
    }

    internal static void WriteIntents(PuppetBlockDevice member, params int[] dirty)
    {
        byte[] regions = NewestIntents(member, out ulong number);
        Array.Clear(regions);
        foreach (int region in dirty)
            regions[region] = 1;
        long place = MetadataLayout.IntentsAt(MetadataLayout.TailOf(DeviceSize), number + 1);
        IntentRecord.Write(member.Store.Slice((int)place, MetadataLayout.BlockSize), NewestSuperblock(member).Set, number + 1, regions);
    }

    /// <summary>A mirror over devices.</summary>
    internal static MirrorSet Assemble(string name, BlockDevice[] devices, bool degraded = false) =>
        MirrorSet.Assemble(new AssemblyRequest(name, devices, [.. devices.Select(static d => d.Name)], degraded));

    /// <summary>A mirror over all members that is in step.</summary>
    internal MirrorSet Mirror(bool degraded = false)
    {
        MirrorSet set = Assemble("mirror", Members, degraded);
        Assert.Equal(Errno.Ok, set.WaitInSync(TestContext.Current.CancellationToken));
        return set;
    }

    /// <summary>Disposed before rings and sets, it lets members end what they hold: a test that fails in between fails, and does not wait for ever.</summary>
    internal IDisposable LetsGo() => new Release(Members);

    public void Dispose()
    {
        foreach (PuppetBlockDevice member in Members)
            Assert.Equal((0, 0), (member.LiveMaps, member.LiveTokens));
        Assert.True(_iommu.Faults == 0 && _iommu.StaleAccesses == 0, string.Join(Environment.NewLine, _iommu.Reports));
        _iommu.Dispose();
    }

    private sealed class Release(PuppetBlockDevice[] members) : IDisposable
    {
        public void Dispose()
        {
            foreach (PuppetBlockDevice member in members)
            {
                member.OnSubmit = null;
                member.Hold = false;
                member.Finish();
            }
        }
    }
}
