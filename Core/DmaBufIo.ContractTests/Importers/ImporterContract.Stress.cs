using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>Everything at once, on real threads: two owners with a ring each, a mover, one who registers again and again.</content>
public abstract partial class ImporterContract
{
    /// <summary>Thousands of requests while the buffer moves and registrations come and go: each ends once, with the right data.</summary>
    [Fact]
    public virtual void R4_thousands_of_requests_under_moves_and_registrations_end_once_with_the_right_data() => InBothDesigns(stage =>
    {
        SkipUnless(ImporterCapabilities.KeepsData | ImporterCapabilities.MovesData);
        bool hasEnded = false;
        int part = Owner.Requests * stage.Blocks(2048);
        SkipUnless((2 * part) + stage.Target.BlockSize <= stage.Target.Capacity, $"The device holds {stage.Target.Capacity} bytes, and the fact needs {(2 * part) + stage.Target.BlockSize}.");
        Owner[] owners = [];
        Ring third = stage.OpenRing("third");
        try
        {
            owners = [new(stage, 0), new(stage, 1)];
            third.RegisterBuffer(0, stage.Registration);
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.EBUSY)
        {
            SkipUnless(false, $"The fact needs four queues of the device, and it has no more: {e.Message}");
        }

        IActor[] working = [.. owners.Select((owner, i) => stage.World.Actors.Start($"owner {i}", owner.Run))];
        IActor mover = stage.World.Actors.Start("mover", () =>
        {
            while (!Volatile.Read(ref hasEnded))
            {
                stage.Buffer.Move();
                Thread.Yield();
            }
        });
        IActor registrar = stage.World.Actors.Start("registrar", () =>
        {
            var one = new RingCompletion[1];
            for (int i = 0; !Volatile.Read(ref hasEnded); i++)
            {
                third.RegisterBuffer(i % 3, stage.Registration);

                // Behind the owners' parts of the device: the last blocks are nobody's.
                long last = stage.Target.Capacity - stage.Target.BlockSize;
                third.TryReadFixed(stage.Target.File, i % 3, stage.Buffer.Buffer.Size - stage.Blocks(4096), stage.Target.BlockSize, last, 1);
                third.Submit();
                if (third.Reap(one, 1) != 1 || one[0].Status != Errno.Ok)
                    throw stage.World.Broken("R4", $"a read of a registration that was just made ended with {one[0].Status}.");
            }
        });
        try
        {
            stage.World.JoinAll(working, () => owners.Sum(static o => o.Ended), "R4", "requests under moves and registrations do not end.");
        }
        finally
        {
            Volatile.Write(ref hasEnded, true);
        }

        stage.World.Ends(mover, "T14", "a move under load did not come to its end.");
        stage.World.Ends(registrar, "R4", "a registration under load did not come to its end.");
        foreach (Owner owner in owners)
            owner.CheckTruth();
    },
    512 << 10);

    /// <summary>A ring of its own, a part of the buffer and a part of the device.</summary>
    private sealed class Owner
    {
        private const int Rounds = 60;
        internal const int Requests = 16;
        private readonly ImporterStage _stage;
        private readonly Ring _ring;
        private readonly int _number;
        private readonly int _length;
        private readonly RingCompletion[] _completions = new RingCompletion[Requests];
        private byte[] _written = [];
        private long _ended;

        internal Owner(ImporterStage stage, int number)
        {
            _stage = stage;
            _number = number;
            _length = stage.Blocks(2048);
            _ring = stage.OpenRing($"owner {number}");
            _ring.RegisterBuffer(0, stage.Registration);
        }

        /// <summary>Requests that have ended so far; any thread.</summary>
        internal long Ended => Volatile.Read(ref _ended);

        // Two parts of the buffer, one to write from and one to read into; the last block is the registrar's.
        private int Size => Requests * _length;

        private long Source => 2L * _number * Size;

        private long Destination => Source + Size;

        private long Place => (long)_number * Size;

        internal void Run()
        {
            for (int round = 0; round < Rounds; round++)
            {
                _written = Bytes((round * 2) + _number, Size);
                UnderLock(() => _stage.Buffer.Write(Source, _written));
                Transfer(isWrite: true, round);
                Transfer(isWrite: false, round);
                byte[] found = new byte[Size];
                UnderLock(() => _stage.Buffer.Read(Destination, found));
                _stage.CheckEqual(_written, found, "R4", $"in round {round} of owner {_number} what was written and read again");
            }
        }

        /// <summary>What was written last, by another way than the requests'.</summary>
        internal void CheckTruth()
        {
            byte[] found = _stage.Target.Take(Place, Size);
            _stage.CheckEqual(_written, found, "R4", $"what owner {_number} wrote last");
        }

        private void Transfer(bool isWrite, int round)
        {
            uint ended = 0;
            for (int i = 0; i < Requests; i++)
            {
                long at = (long)i * _length;
                bool prepared = isWrite
                    ? _ring.TryWriteFixed(_stage.Target.File, 0, Source + at, _length, Place + at, (ulong)i)
                    : _ring.TryReadFixed(_stage.Target.File, 0, Destination + at, _length, Place + at, (ulong)i);
                _stage.World.Check(prepared, "R4", "the ring is full although nothing is in flight.");
            }

            _ring.Submit();
            if (round % 5 == 4)
                _ring.RegisterBuffer(0, _stage.Registration); // what is in flight keeps the old one (R6)
            while (ended != (1u << Requests) - 1)
            {
                int reaped = _ring.Reap(_completions, 1);
                Volatile.Write(ref _ended, _ended + reaped);
                foreach (RingCompletion completion in _completions.AsSpan(0, reaped))
                {
                    _stage.Ended(completion, _length, "R4", $"in round {round} a {(isWrite ? "write" : "read")} under moves");
                    uint bit = 1u << (int)completion.UserData;
                    _stage.World.Check((ended & bit) == 0, "R4", $"in round {round} request {completion.UserData} ended twice.");
                    ended |= bit;
                }
            }
        }

        private void UnderLock(Action act)
        {
            using ReservationGuard guard = _stage.Buffer.Buffer.Reservation.Lock();
            act();
        }
    }
}
