using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.ContractTests;

/// <summary>A step of a generated sequence: four numbers whose meaning is the model's.</summary>
/// <param name="Kind">What is done, from 0 to 99.</param>
/// <param name="Place">Where, from 0 to 99,999.</param>
/// <param name="Length">How much, from 0 to 999.</param>
/// <param name="Memory">In which memory, from 0 to 9,999.</param>
internal readonly record struct GeneratedStep(int Kind, int Place, int Length, int Memory)
{
    /// <summary>Any step.</summary>
    internal static Gen<GeneratedStep> Any { get; } =
        from kind in Gen.Choose(0, 99)
        from place in Gen.Choose(0, 99_999)
        from size in Gen.Choose(0, 999)
        from memory in Gen.Choose(0, 9_999)
        select new GeneratedStep(kind, place, size, memory);

    public override string ToString() => $"({Kind}, {Place}, {Length}, {Memory})";
}
