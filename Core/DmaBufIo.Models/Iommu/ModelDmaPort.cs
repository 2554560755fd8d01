using System.Buffers;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Models.Iommu;

/// <summary>The device's end of its path to memory: translates, checks, moves and records, one run of memory at a time.</summary>
internal sealed class ModelDmaPort : DmaPort
{
    private const int BounceSize = 64 * 1024;

    private readonly IommuDomain _domain;
    private readonly AccessLog _log;

    public ModelDmaPort(IommuDomain domain, AccessLog log)
    {
        _domain = domain;
        _log = log;
    }

    /// <summary>What is done with each piece of a DMA; a type parameter, so that a copy is inlined and nothing is allocated.</summary>
    private interface IPieceMove
    {
        Errno Move(Span<byte> piece, long position);
    }

    public override string DeviceName => _domain.DeviceName;

    public override Errno Read(ulong address, Span<byte> destination)
    {
        var move = new CopyToDevice(destination);
        return Perform(address, destination.Length, DmaDirection.ToDevice, ref move);
    }

    public override Errno Write(ulong address, ReadOnlySpan<byte> source)
    {
        var move = new CopyFromDevice(source);
        return Perform(address, source.Length, DmaDirection.FromDevice, ref move);
    }

    public override Errno Transfer(ulong address, long length, DmaDirection direction, IDmaMover mover)
    {
        if (length <= 0 || direction is not (DmaDirection.ToDevice or DmaDirection.FromDevice))
            return Errno.EINVAL;
        var move = new MoveByMover(mover);
        return Perform(address, length, direction, ref move);
    }

    public override DmaWindow? OpenWindow(ulong address, int length, DmaDirection direction)
    {
        if (length <= 0 || direction == DmaDirection.None)
            return null;
        using (_domain.Gate.EnterAsDevice())
        {
            _domain.Translate(address, length, direction, out Translation run);
            if (run.Problem != AccessProblem.None || run.Length < length)
            {
                AccessProblem problem = run.Problem.IsServed() ? AccessProblem.NotMapped : run.Problem;
                Refuse(problem, address, length, direction, run.Record, run.Region?.Name);
                return null;
            }

            var window = new ModelDmaWindow(_domain, _log, run, address, length, direction);
            _domain.AddWindow(window);
            return window;
        }
    }

    private Errno Perform<TMove>(ulong address, long length, DmaDirection direction, ref TMove move)
        where TMove : struct, IPieceMove, allows ref struct
    {
        var reported = default(Reported);
        for (long position = 0; position < length;)
        {
            // The gate is given up between runs, so that an unmap need not wait for a whole long transfer.
            int moved;
            Errno status;
            using (_domain.Gate.EnterAsDevice())
                status = MoveRun(address + (ulong)position, position, length - position, direction, ref move, ref reported, out moved);
            if (status != Errno.Ok)
                return status;
            position += moved;
        }

        return Errno.Ok;
    }

    private Errno MoveRun<TMove>(
        ulong address, long position, long left, DmaDirection direction, ref TMove move, ref Reported reported, out int moved)
        where TMove : struct, IPieceMove, allows ref struct
    {
        _domain.Translate(address, left, direction, out Translation run);
        moved = run.Length;
        if (!run.Problem.IsServed())
            return Refuse(run.Problem, address, left, direction, run.Record, null);
        MemoryRegion region = run.Region!;
        if (run.Problem is AccessProblem.ServedAfterUnmap or AccessProblem.ServedUnmapped)
            return MoveStaleRun(run, address, position, left, direction, ref move, ref reported);

        // A live mapping keeps its memory allocated: that is the caller's promise to Map.
        bool dead = region.IsDead;
        if (!TrySpan(region, run.Offset, run.Length, out Span<byte> piece))
            return Refuse(AccessProblem.MemoryGone, address, left, direction, run.Record, region.Name);
        if (run.Problem != AccessProblem.None)
            Report(run.Problem, address, run, direction, ref reported);
        Errno status = move.Move(piece, position);
        if (direction == DmaDirection.ToDevice)
            _domain.Counters.BytesFromMemory += piece.Length;
        else
            _domain.Counters.BytesToMemory += piece.Length;

        // Memory that died under the access was used after the invalidation had returned, as surely as memory that was dead before.
        if (dead || region.IsDead)
            Report(AccessProblem.DeadMemory, address, run, direction, ref reported);
        return status;
    }

    private Errno MoveStaleRun<TMove>(
        in Translation run, ulong address, long position, long left, DmaDirection direction, ref TMove move, ref Reported reported)
        where TMove : struct, IPieceMove, allows ref struct
    {
        if (!StaleMemory.TryOpen(run.Region!, out StaleMemory memory))
            return Refuse(AccessProblem.MemoryGone, address, left, direction, run.Record, run.Region!.Name);
        byte[] bounce = ArrayPool<byte>.Shared.Rent(Math.Min(run.Length, BounceSize));
        try
        {
            Report(run.Problem, address, run, direction, ref reported);
            for (int done = 0; done < run.Length;)
            {
                Span<byte> piece = bounce.AsSpan(0, Math.Min(run.Length - done, bounce.Length));

                // Read first in both directions: a mover that fails may leave a part of the piece as it was.
                memory.Read(run.Offset + done, piece);
                Errno status = move.Move(piece, position + done);
                if (direction == DmaDirection.FromDevice)
                    memory.Write(run.Offset + done, piece);
                if (status != Errno.Ok)
                    return status;
                done += piece.Length;
            }

            return Errno.Ok;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bounce);
            memory.Dispose();
        }
    }

    private static bool TrySpan(MemoryRegion region, long offset, int length, out Span<byte> piece)
    {
        try
        {
            piece = region.Span(offset, length);
            return true;
        }
        catch (ObjectDisposedException)
        {
            piece = default;
            return false;
        }
    }

    private Errno Refuse(AccessProblem problem, ulong address, long length, DmaDirection direction, MappingRecord? record, string? region)
    {
        _log.Record(DeviceName, problem, address, length, direction, record, region);
        return Errno.EFAULT;
    }

    private void Report(AccessProblem problem, ulong address, in Translation run, DmaDirection direction, ref Reported reported)
    {
        // Adjoining runs of one mapping are one access, and one report.
        bool continues = reported.Problem == problem && reported.End == address
            && reported.Mapping == (run.Record?.Order ?? 0) && reported.Region == run.Region;
        reported = new Reported
        {
            Problem = problem,
            End = address + (ulong)run.Length,
            Mapping = run.Record?.Order ?? 0,
            Region = run.Region,
        };
        if (continues)
            return;
        _log.Record(DeviceName, problem, address, run.Length, direction, run.Record, run.Region!.Name);
    }

    private struct Reported
    {
        public AccessProblem Problem;
        public ulong End;
        public long Mapping;
        public MemoryRegion? Region;
    }

    private readonly ref struct CopyToDevice(Span<byte> destination) : IPieceMove
    {
        private readonly Span<byte> _destination = destination;

        public Errno Move(Span<byte> piece, long position)
        {
            piece.CopyTo(_destination[(int)position..]);
            return Errno.Ok;
        }
    }

    private readonly ref struct CopyFromDevice(ReadOnlySpan<byte> source) : IPieceMove
    {
        private readonly ReadOnlySpan<byte> _source = source;

        public Errno Move(Span<byte> piece, long position)
        {
            _source.Slice((int)position, piece.Length).CopyTo(piece);
            return Errno.Ok;
        }
    }

    private readonly struct MoveByMover(IDmaMover mover) : IPieceMove
    {
        public Errno Move(Span<byte> piece, long position) => mover.Move(piece, position);
    }
}
