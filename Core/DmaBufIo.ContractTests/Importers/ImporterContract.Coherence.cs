using DmaBufIo.Dma;
using DmaBufIo.Memory;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <content>CPU caches: what is synchronised, for what range, and when (N7, T18).</content>
public abstract partial class ImporterContract
{
    /// <summary>On a device that is not coherent each request's own range is synchronised: before the device reads it, after the device has written it.</summary>
    [Fact]
    public virtual void N7_a_device_that_is_not_coherent_has_the_requests_range_synchronised() => OnTape((stage, tape) =>
    {
        foreach ((int offset, int length) in SyncRanges(stage))
        {
            tape.Clear();
            stage.CheckRead(FileOffset(stage, length), offset, Bytes(offset + 1, length), "N7");
            CheckSynced(stage, tape, offset, length, forDevice: false);
            tape.Clear();
            stage.CheckWrite(FileOffset(stage, length), offset, Bytes(offset + 2, length), "N7");
            CheckSynced(stage, tape, offset, length, forDevice: true);
        }
    });

    /// <summary>The order of an end: the device has moved the data, then the CPU sync, and only then the map's reference goes (T18).</summary>
    [Fact]
    public virtual void T18_the_CPU_sync_comes_after_the_data_and_before_the_end() => OnTape((stage, tape) =>
    {
        foreach ((int offset, int length) in SyncRanges(stage))
        {
            tape.Clear();
            stage.CheckRead(FileOffset(stage, length), offset, Bytes(offset + 1, length), "T18");
            int lastData = tape.Notes.FindLastIndex(static n => n.Kind == NoteKind.Written);
            int firstSync = tape.Notes.FindIndex(static n => n.Kind == NoteKind.ForCpu);
            stage.World.Check(
                firstSync < 0 || firstSync > lastData || tape.Notes.FindLastIndex(static n => n.Kind == NoteKind.ForCpu) > lastData,
                "T18",
                "the CPU sync of a read came before the device had written the data, and not again after it.");
            stage.World.Check(
                tape.Notes.TrueForAll(static n => n.Kind != NoteKind.ForCpu || n.Users > 0),
                "T18",
                "the map's reference had gone before the CPU sync.");
        }
    });

    /// <summary>On a coherent device there is nothing to synchronise.</summary>
    [Fact]
    public virtual void N7_a_coherent_device_is_spared_the_syncs() => OnStage(stage =>
    {
        int syncs = 0;
        stage.World.Fabric.OnSync = (mapping, _) =>
        {
            if (mapping.Purpose == "contract")
                Interlocked.Increment(ref syncs);
        };
        int length = stage.Blocks(8192);
        stage.CheckRead(0, 4096, Bytes(1, length));
        stage.CheckWrite(0, 4096, Bytes(2, length));
        stage.World.Check(syncs == 0, "N7", $"two requests of a coherent device synchronised {syncs} times.");
    });

    private void OnTape(Action<ImporterStage, Tape> fact) => OnStage(
        new StageSetup { Pieces = [8192, 4096, 128 << 10, 64 << 10] },
        stage =>
        {
            SkipUnless(ImporterCapabilities.MovesData);

            // The map is made first: what counts are requests.
            stage.CheckRead(0, 0, Bytes(1, stage.Blocks(4096)));
            fact(stage, new Tape(stage));
        },
        new ModelIommuOptions { InvalidationThread = false, NonCoherent = true },
        situation: "a device that is not coherent");

    private static IEnumerable<(int Offset, int Length)> SyncRanges(ImporterStage stage)
    {
        yield return (4096, stage.Blocks(512));
        yield return (0, stage.Blocks(16384)); // over two joints
        yield return (32768, stage.Blocks(4096));
        yield return (12288 - stage.Target.MemoryAlignment, stage.Blocks(8192));
    }

    private void CheckSynced(ImporterStage stage, Tape tape, int offset, int length, bool forDevice)
    {
        string what = forDevice ? $"a write of the {length} bytes at {offset}" : $"a read into the {length} bytes at {offset}";
        NoteKind kind = forDevice ? NoteKind.ForDevice : NoteKind.ForCpu;
        bool[] synced = new bool[length];
        long total = 0;
        for (int i = 0; i < tape.Notes.Count; i++)
        {
            Note note = tape.Notes[i];
            if (note.Kind != kind)
                continue;
            total += note.Length;

            // In time: before the device reads the part, after the device has written the last of it.
            bool inTime = forDevice
                ? !tape.Notes.Take(i).Any(n => n.Kind == NoteKind.Read && n.Overlaps(note))
                : !tape.Notes.Skip(i).Any(n => n.Kind == NoteKind.Written && n.Overlaps(note));
            if (inTime)
                note.Within(offset, length).ForEach(b => synced[b] = true);
        }

        int missing = Array.IndexOf(synced, false);
        stage.World.Check(missing < 0, "N7", $"{what} ended, and from byte {offset + missing} of the buffer on it was not synchronised for the {(forDevice ? "device before the device read it" : "CPU after the device had written it")}.");

        // A mirror does so once for each of its copies, of which there are 16 at most.
        long own = (length + 8192L) * (forDevice && Can(ImporterCapabilities.Redundant) ? 16 : 1);
        stage.World.Check(total <= own, "N7", $"{what} synchronised {total} bytes: more than its own range, rounded to pages.");
    }

    private enum NoteKind
    {
        ForDevice,
        ForCpu,
        Read,
        Written,
    }

    /// <summary>Something that happened to a part of the buffer.</summary>
    private readonly record struct Note(NoteKind Kind, long Offset, long Length, long Users)
    {
        internal bool Overlaps(in Note other) => Offset < other.Offset + other.Length && other.Offset < Offset + Length;

        internal List<int> Within(long offset, int length)
        {
            int from = (int)Math.Clamp(Offset - offset, 0, length);
            int to = (int)Math.Clamp(Offset + Length - offset, 0, length);
            return [.. Enumerable.Range(from, to - from)];
        }
    }

    /// <summary>What happened to a buffer, in order.</summary>
    private sealed class Tape
    {
        private readonly Lock _lock = new();
        private readonly List<Note> _notes = [];
        private readonly MemoryRange[] _pieces;
        private readonly ImporterStage _stage;

        internal Tape(ImporterStage stage)
        {
            _stage = stage;
            _pieces = [.. stage.Buffer.Buffer.Describe().Ranges];
            stage.World.Fabric.OnSync = (mapping, forDevice) =>
            {
                if (mapping.Purpose == "contract")
                    Add(forDevice ? NoteKind.ForDevice : NoteKind.ForCpu, OffsetOf(mapping.Memory), mapping.Memory.Length);
            };
            stage.World.Fabric.AfterDma = dma =>
            {
                if (dma.Purpose == "contract")
                    Add(dma.Direction == DmaDirection.ToDevice ? NoteKind.Read : NoteKind.Written, OffsetOf(dma), dma.Length);
            };
        }

        internal List<Note> Notes
        {
            get
            {
                lock (_lock)
                    return [.. _notes];
            }
        }

        internal void Clear()
        {
            lock (_lock)
                _notes.Clear();
        }

        private void Add(NoteKind kind, long offset, long length)
        {
            long users = Diagnostics.DmaBufIoDiagnostics.Snapshot().Tokens.Where(t => t.Buffer == "contract").Sum(static t => t.Users);
            lock (_lock)
                _notes.Add(new Note(kind, offset, length, users));
        }

        private long OffsetOf(in MemoryRange memory)
        {
            long start = 0;
            foreach (MemoryRange piece in _pieces)
            {
                if (ReferenceEquals(piece.Region, memory.Region))
                    return start + memory.Offset - piece.Offset;
                start += piece.Length;
            }

            throw new InvalidOperationException("A part of the buffer lies in memory that is not the buffer's.");
        }

        private long OffsetOf(in PuppetDma dma)
        {
            ulong address = dma.Address;

            // Devices have address spaces of their own, in which addresses are the same; some share one.
            PuppetMapping[] all = [.. _stage.World.Mappings.Where(m => m.Purpose == "contract" && address >= m.Address && address - m.Address < (ulong)m.Memory.Length)];
            string device = dma.Device;
            PuppetMapping mapping = all.Where(m => m.Device == device).Append(all[0]).First();
            return OffsetOf(mapping.Memory) + (long)(address - mapping.Address);
        }
    }
}
