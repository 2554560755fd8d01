using DmaBufIo.Block;
using DmaBufIo.Importers.NvmePci.Tests.Harness;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tests;

public sealed class AllocationTests
{
    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void N1_a_request_allocates_nothing_after_warm_up(bool ownThread, bool nonCoherent) => Rig.With(
        rig =>
        {
            Lane lane = rig.Lane(depth: 32);
            (DmaBufToken token, _) = rig.Register(4 << 20);
            Work(lane, token, 200);

            // What a request allocates shows in every round. A lock of the model that is contended for the first time allocates once.
            long[] allocated = [.. Enumerable.Range(0, 5).Select(_ =>
            {
                long before = GC.GetAllocatedBytesForCurrentThread();
                Work(lane, token, 500);
                return GC.GetAllocatedBytesForCurrentThread() - before;
            })];
            Assert.Contains(0, allocated);
        },
        Rig.Small with { OwnThread = ownThread },
        iommu: new ModelIommuOptions { NonCoherent = nonCoherent });

    private static void Work(Lane lane, DmaBufToken token, int rounds)
    {
        for (int round = 0; round < rounds; round++)
        {
            for (int i = 0; i < 16; i++)
            {
                // One page, two pages, a list.
                long size = 4096L << (i % 4);
                if (!lane.TrySubmit(token, i % 2 == 0 ? BioOperation.Read : BioOperation.Write, i * 65536 + 512, size, i * 128, i))
                    throw new InvalidOperationException("The queue was full.");
            }

            lane.Finish();
        }
    }
}
