using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Importers.ExtentFile;
using DmaBufIo.Importers.StackedRaid.Mirror;
using DmaBufIo.Importers.StackedRaid.Tests.Harness;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Pci.Model;
using DmaBufIo.Plugins;
using DmaBufIo.Rings;

namespace DmaBufIo.Importers.StackedRaid.Tests;

/// <summary>
/// Power is lost at a seeded moment, on both members of a mirror, while a file on it is being written. What was acknowledged and then flushed must be there afterwards, and nothing but what was
/// written; both copies must agree once the mirror has looked after itself.
/// </summary>
public sealed class CrashTests
{
    private const long DiskSize = 1 << 20;
    private const int Block = 4096;
    private const int Blocks = 96;

    /// <summary>A few of the crash points; the long run has a thousand (tests/long/crashes.sh).</summary>
    public static TheoryData<int> Batches
    {
        get
        {
            int points = int.TryParse(Environment.GetEnvironmentVariable("DMABUFIO_CRASH_POINTS"), out int all) ? all : 60;
            return [.. Enumerable.Range(0, Math.Max(1, points / 20))];
        }
    }

    [Theory]
    [MemberData(nameof(Batches))]
    public void After_a_crash_what_was_flushed_is_there_and_both_copies_agree(int batch)
    {
        for (int seed = batch * 20; seed < (batch + 1) * 20; seed++)
            CrashOnce(seed);
    }

    private static void CrashOnce(int seed)
    {
        using var first = new NamespaceMemory(DiskSize);
        using var second = new NamespaceMemory(DiskSize);
        NamespaceMemory[] memory = [first, second];
        var random = new Random(seed);
        var model = new Model(Blocks);
        bool crashed = false;

        // Every third run is one in which the set has been at work before.
        if (seed % 3 == 0)
            Run(memory, seed, random, model, crashAfter: [0, 0], out _);
        long point = 1 + random.Next(400);
        Run(memory, seed, random, model, crashAfter: [point, random.Next(3) == 0 ? point + random.Next(20) : point], out crashed);
        Assert.True(crashed || point > 100, $"seed {seed}: no crash");
        Verify(memory, seed, model);
    }

    /// <summary>Writes and flushes until the crash, or for a while.</summary>
    private static void Run(NamespaceMemory[] memory, int seed, Random random, Model model, long[] crashAfter, out bool crashed)
    {
        using var rig = new SetRig();
        BlockDevice[] disks = Disks(rig, memory);
        crashed = false;
        BlockDevice set;
        IoFile file;
        for (int i = 0; i < 2; i++)
        {
            if (crashAfter[i] != 0)
                rig.Models[i].CrashAfter(crashAfter[i], (ulong)((seed * 2) + i));
        }

        try
        {
            set = rig.Set(new Raid1Factory(), null, disks);
            file = new ExtentFileFactory().Open(Expression(size: Blocks * Block), [set], OpenFlags.Direct);
        }
        catch (DmaBufIoException)
        {
            // It came while the set or the file was being made.
            crashed = true;
            return;
        }

        model.Exists = true;
        MovingExporter exporter = MovingExporter.Create("buffer", 1 << 20);
        using (var ring = new Ring(new RingOptions { Name = "crash", Entries = 16 }))
        {
            crashed |= !TryRegister(ring, exporter, file);
            var completions = new RingCompletion[16];
            for (int round = 0; round < 60 && !crashed; round++)
            {
                if (random.Next(8) == 0)
                    exporter.Move(TestContext.Current.CancellationToken);
                int count = 1 + random.Next(8);
                var blocks = new HashSet<int>();
                for (int i = 0; i < count; i++)
                {
                    int block = random.Next(Blocks);
                    if (!blocks.Add(block))
                        continue;
                    int version = model.Begin(block);
                    Stamp(exporter.Region.Span(block * Block, Block), block, version);
                    Assert.True(ring.TryWriteFixed(file, 0, block * Block, Block, block * Block, (ulong)block));
                }

                crashed |= !Reap(ring, completions, blocks.Count, model);
                if (crashed || random.Next(3) != 0)
                    continue;
                Assert.True(ring.TryFlush(file, ulong.MaxValue));
                if (Reap(ring, completions, 1, null))
                    model.Flushed();
                else
                    crashed = true;
            }

            Tokens.DmaBufToken? token = ring.TokenAt(0);
            ring.Dispose();
            token?.WaitReleased(TestContext.Current.CancellationToken);
        }

        exporter.Buffer.Put();
        file.Put();
        crashed |= rig.Models.Any(static m => m.Crashed is not null);
        if (!crashed && crashAfter[0] == 0)
        {
            // An orderly end makes everything durable.
            rig.Dispose();
            model.Flushed();
        }
        else if (!crashed)
        {
            rig.Models[0].Crash((ulong)seed);
            rig.Models[1].Crash((ulong)seed + 1);
            crashed = true;
        }
        else
        {
            foreach (NvmeControllerModel left in rig.Models.Where(static m => m.Crashed is null))
                left.Crash((ulong)seed);
        }
    }

    private static bool TryRegister(Ring ring, MovingExporter exporter, IoFile file)
    {
        try
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = exporter.Buffer, File = file });
            return true;
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.ENODEV)
        {
            return false; // both members are gone already
        }
    }

    private static bool Reap(Ring ring, RingCompletion[] completions, int count, Model? model)
    {
        ring.Submit(TestContext.Current.CancellationToken);
        bool ok = true;
        while (count > 0)
        {
            int reaped = ring.Reap(completions, 1, TestContext.Current.CancellationToken);
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
            foreach (RingCompletion completion in completions.AsSpan(0, reaped))
            {
                ok &= completion.Status == Errno.Ok;
                if (completion.Status == Errno.Ok)
                    model?.Acknowledged((int)completion.UserData);
            }

            count -= reaped;
        }

        return ok;
    }

    private static void Verify(NamespaceMemory[] memory, int seed, Model model)
    {
        using var rig = new SetRig();
        BlockDevice[] disks = Disks(rig, memory);
        BlockDevice set = rig.Set(new Raid1Factory(), null, disks);
        Assert.Equal(Errno.Ok, ((IRedundantDevice)set).WaitInSync(TestContext.Current.CancellationToken));
        IoFile file;
        try
        {
            file = new ExtentFileFactory().Open(Expression(size: null), [set], OpenFlags.Direct | OpenFlags.ReadOnly);
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.ENOENT && !model.Exists)
        {
            return;
        }

        Assert.Equal(Blocks * Block, file.Size);
        MovingExporter exporter = MovingExporter.Create("buffer", 1 << 20);
        using (var ring = new Ring(new RingOptions { Name = "verify", Entries = 4 }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = exporter.Buffer, File = file });
            ring.TryReadFixed(file, 0, 0, Blocks * Block, 0, 1);
            ring.Submit(TestContext.Current.CancellationToken);
            var completions = new RingCompletion[1];
            Assert.Equal(1, ring.Reap(completions, 1, TestContext.Current.CancellationToken));
            Assert.Equal(new RingCompletion(1, Errno.Ok, Blocks * Block), completions[0]);
            for (int block = 0; block < Blocks; block++)
                model.Check(exporter.Region.Span(block * Block, Block), block, seed);
            Tokens.DmaBufToken token = ring.TokenAt(0)!;
            ring.Dispose();
            token.WaitReleased(TestContext.Current.CancellationToken);
        }

        exporter.Buffer.Put();
        file.Put();
        long size = set.Capacity;
        rig.Finish();
        byte[] one = new byte[size];
        byte[] other = new byte[size];
        memory[0].Read(0, one);
        memory[1].Read(0, other);
        Assert.True(one.AsSpan().SequenceEqual(other), $"seed {seed}: the copies differ");
    }

    private static BlockDevice[] Disks(SetRig rig, NamespaceMemory[] memory) =>
        [.. memory.Select(m => rig.Disk(new NvmeModelOptions { OwnThread = false, Memory = m, WriteCacheSize = 256 << 10 }))];

    private static DeviceExpression Expression(long? size)
    {
        var options = new Dictionary<string, DeviceOption>();
        if (size is not null)
            options["size"] = new DeviceOption($"{size}", 0, 0);
        return SetRig.Expression("extent", "data", 1) with { Options = options };
    }

    /// <summary>Every sector of a block says which block and which version it is: what is torn shows.</summary>
    private static void Stamp(Span<byte> block, int number, int version)
    {
        for (int sector = 0; sector < Block; sector += 512)
        {
            block.Slice(sector, 512).Fill((byte)version);
            BitConverter.TryWriteBytes(block[sector..], number);
            BitConverter.TryWriteBytes(block[(sector + 4)..], version);
        }
    }

    /// <summary>What each block may hold.</summary>
    private sealed class Model(int blocks)
    {
        private readonly int[] _last = new int[blocks]; // versions begun
        private readonly int[] _acknowledged = new int[blocks];
        private readonly int[] _flushed = new int[blocks];

        internal bool Exists { get; set; }

        internal int Begin(int block) => ++_last[block];

        internal void Acknowledged(int block) => _acknowledged[block] = _last[block];

        internal void Flushed() => _acknowledged.CopyTo(_flushed, 0);

        /// <summary>Each sector holds its block's flushed version, or a later one.</summary>
        internal void Check(ReadOnlySpan<byte> data, int block, int seed)
        {
            for (int sector = 0; sector < Block; sector += 512)
            {
                int version = BitConverter.ToInt32(data[(sector + 4)..]);
                int number = BitConverter.ToInt32(data[sector..]);
                bool fits = version == 0 ? _flushed[block] == 0 && number == 0 : number == block && version >= _flushed[block] && version <= _last[block];
                Assert.True(fits, $"seed {seed}: block {block}, sector {sector / 512} holds version {version} of block {number}; flushed {_flushed[block]}, last {_last[block]}");
            }
        }
    }
}
