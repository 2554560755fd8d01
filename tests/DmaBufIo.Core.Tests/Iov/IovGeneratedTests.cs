using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Memory;
using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.Tests.Iov;

/// <summary>Random walks of iterators of every kind against a model that knows nothing but a list of places and two indices.</summary>
public sealed class IovGeneratedTests : IDisposable
{
    private readonly MemoryRegion _region = MemoryRegion.Allocate("iov", 1 << 20);

    private enum Verb
    {
        Advance,
        Revert,
        Save,
        Restore,
        Truncate,
    }

    public void Dispose() => _region.Dispose();

    [Fact]
    public void I2_any_walk_of_any_kind_stands_where_a_list_of_places_says()
    {
        Gen<int[]> lengths = Gen.Choose(0, 40).ArrayOf().Where(static l => l.Length is > 0 and <= 12);
        Gen<(Verb, int)[]> steps = Gen.Zip(Gen.Elements(Enum.GetValues<Verb>()), Gen.Choose(-3, 120)).ArrayOf();
        Gen<(IovKind Kind, int[] Lengths, (Verb, int)[] Steps)> walks =
            from kind in Gen.Elements(Iterators.Kinds)
            from l in lengths
            from s in steps
            select (kind, l, s);
        Check.One(
            Config.QuickThrowOnFailure.WithMaxTest(2000).WithEndSize(60),
            Prop.ForAll(walks.ToArbitrary(), walk => Walk(walk.Kind, walk.Lengths, walk.Steps)));
    }

    private void Walk(IovKind kind, int[] lengths, (Verb Verb, int Bytes)[] steps)
    {
        IovIter iter = Iterators.Make(kind, _region, lengths);
        IovIterState start = iter.Save();
        var model = new Model(kind, lengths);
        IovIterState saved = start;
        (int At, int End) modelSaved = (model.At, model.End);
        model.AssertMatches(iter);
        foreach ((Verb verb, int bytes) in steps)
        {
            switch (verb)
            {
                case Verb.Advance:
                    Assert.Equal(model.Advance(bytes) ? Errno.Ok : Errno.EINVAL, iter.Advance(bytes));
                    break;
                case Verb.Revert:
                    Assert.Equal(model.Revert(bytes) ? Errno.Ok : Errno.EINVAL, iter.Revert(bytes, start));
                    break;
                case Verb.Save:
                    saved = iter.Save();
                    modelSaved = (model.At, model.End);
                    break;
                case Verb.Restore:
                    iter.Restore(saved);
                    (model.At, model.End) = modelSaved;
                    break;
                default:
                    iter.Truncate(bytes);
                    model.End = Math.Min(model.End, model.At + Math.Max(0, bytes));
                    break;
            }

            model.AssertMatches(iter);
        }
    }

    private sealed class Model
    {
        private readonly List<(int Piece, int Offset, int Left)> _places = [];

        internal Model(IovKind kind, int[] lengths)
        {
            int[] pieces = Iterators.Vectors.Contains(kind) ? lengths : [lengths.Sum()];
            for (int piece = 0; piece < pieces.Length; piece++)
            {
                for (int offset = 0; offset < pieces[piece]; offset++)
                    _places.Add((piece, offset, pieces[piece] - offset));
            }

            End = _places.Count;
        }

        internal int At { get; set; }

        internal int End { get; set; }

        internal bool Advance(int bytes) => Move(bytes >= 0 && bytes <= End - At, bytes);

        internal bool Revert(int bytes) => Move(bytes >= 0 && bytes <= At, -bytes);

        internal void AssertMatches(in IovIter iter)
        {
            Assert.Equal(End - At, iter.Count);
            if (At == End)
                return; // at the end there is no byte to stand on
            (int piece, int offset, int left) = _places[At];
            Assert.Equal((piece, (long)offset), Iterators.Place(iter));
            long contiguous = Math.Min(left, End - At);
            if (iter.IsAny(IovKind.AnyDmaBuf))
                Assert.Equal(new BufferRange(Iterators.Origin(piece) + offset, contiguous), iter.CurrentRange);
            if (iter.IsAny(IovKind.BioVec))
                Assert.Equal((Iterators.Origin(piece) + offset, contiguous), (iter.CurrentMemory.Offset, iter.CurrentMemory.Length));
        }

        private bool Move(bool allowed, int bytes)
        {
            At += allowed ? bytes : 0;
            return allowed;
        }
    }
}
