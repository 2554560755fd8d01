using DmaBufIo.Dma;
using DmaBufIo.Models.Iommu;
using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.Models.Tests.Iommu;

public class GeneratedTests
{
    [Theory]
    [InlineData(IommuMode.Strict, true)]
    [InlineData(IommuMode.Strict, false)]
    [InlineData(IommuMode.Lazy, true)]
    [InlineData(IommuMode.Lazy, false)]
    [InlineData(IommuMode.Passthrough, true)]
    public void Any_sequence_of_maps_unmaps_and_accesses_behaves_as_a_plain_list_of_mappings_says(IommuMode mode, bool thread)
    {
        // Each number is one step; a shorter list of them is a sequence too, so that a failure shrinks.
        Arbitrary<int[]> steps = Arb.From(
            Gen.Choose(0, int.MaxValue).ArrayOf(120),
            failing => Enumerable.Range(0, failing.Length).Select(gone => failing.Where((_, i) => i != gone).ToArray()));
        Property property = Prop.ForAll(steps, numbers =>
        {
            using var model = new ReferenceModel(mode, thread);
            foreach (int number in numbers)
                model.Step(number);
            model.Finish();
        });
        Check.One(Config.QuickThrowOnFailure.WithMaxTest(150), property);
    }

    [Theory]
    [InlineData(IommuMode.Strict, 1)]
    [InlineData(IommuMode.Strict, 2)]
    [InlineData(IommuMode.Lazy, 3)]
    [InlineData(IommuMode.Lazy, 4)]
    [InlineData(IommuMode.Passthrough, 5)]
    public void A_long_life_of_random_steps_stays_true_to_the_list(IommuMode mode, int seed)
    {
        using var model = new ReferenceModel(mode, thread: seed % 2 == 0);
        var random = new Random(seed);
        for (int i = 0; i < 15_000; i++)
            model.Step(random.Next());
        model.Finish();
    }

    [Fact]
    public void Mappings_of_any_size_and_phase_reach_their_own_memory_through_both_page_sizes()
    {
        const int Pages = 3000;
        const int Seed = 99;
        using var bench = new Bench(new ModelIommuOptions { AddressBits = 26, ReuseDelay = 2 });
        var region = bench.NumberedRegion(Pages);
        var random = new Random(Seed);
        var live = new List<DeviceRange>();
        byte[] probe = new byte[Pages * Bench.Page];
        for (int i = 0; i < 400; i++)
        {
            if (live.Count > 3)
            {
                bench.Space.Unmap(live[0]);
                live.RemoveAt(0);
            }

            int first = random.Next(Pages - 1);
            live.Add(bench.Map(region, first, random.Next(1, Pages - first)));
            foreach (DeviceRange range in live)
            {
                long offset = random.NextInt64(range.Length - 8);
                int length = (int)Math.Min(range.Length - offset, random.Next(1, 20_000));
                Assert.Equal(Errors.Errno.Ok, bench.Port.Read(range.Address + (ulong)offset, probe.AsSpan(0, length)));
                Assert.True(
                    region.Span(range.Memory.Offset + offset, length).SequenceEqual(probe.AsSpan(0, length)),
                    $"seed {Seed}, step {i}, {range.Memory}, {offset}+{length}");
            }
        }

        bench.AssertClean();
    }
}
