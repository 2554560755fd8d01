using DmaBufIo.Errors;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>The function with its driver.</content>
public abstract partial class PciFunctionContract
{
    /// <summary>With its driver the function moves the right bytes in each direction, each looked at on its own.</summary>
    [Fact]
    public virtual void C4_with_a_driver_each_direction_moves_the_right_bytes() => WithDriver(static stage =>
    {
        int longest = (int)Math.Min(stage.Target.Capacity, 192 << 10) / stage.Target.BlockSize * stage.Target.BlockSize;
        int seed = 0;
        foreach ((int offset, int wanted) in new[] { (0, 1), (4, 4096), (4092, 20000), (0, longest) })
        {
            int length = Math.Min(longest, stage.Blocks(wanted));
            long place = (stage.Target.Capacity - length) / 2 / stage.Target.BlockSize * stage.Target.BlockSize;
            byte[] data = new byte[length];
            new Random(++seed).NextBytes(data);
            stage.CheckRead(place, offset, data, "C4");
            new Random(++seed).NextBytes(data);
            stage.CheckWrite(place, offset, data, "C4");
        }
    });

    /// <summary>One DMA after the other fails, whichever it is: requests end, with their data or with an error, and nothing hangs.</summary>
    [Fact]
    public virtual void C4_with_a_driver_any_DMA_that_fails_is_an_error_and_no_hang()
    {
        SkipUnless(PciFunctionCapabilities.Driver | PciFunctionCapabilities.Model);
        int failing = 0;
        bool wasReached = true;
        while (wasReached && failing < 24)
        {
            int victim = failing++;
            WithDriver(stage => wasReached = FailOne(stage, victim));
        }
    }

    private static bool FailOne(ImporterStage stage, int victim)
    {
        int length = stage.Blocks(8192);
        byte[] data = new byte[length];
        new Random(victim).NextBytes(data);
        stage.Target.Give(0, data);
        int count = 0;
        stage.World.Fabric.OnDma = _ => Interlocked.Increment(ref count) == victim + 1 ? Errno.EFAULT : Errno.Ok;
        stage.Read(0, 0, length, userData: 1);
        long place = stage.Target.Capacity / 2 / stage.Target.BlockSize * stage.Target.BlockSize;
        byte[] written = new byte[length];
        new Random(~victim).NextBytes(written);
        stage.Buffer.Write(16384, written);
        stage.Write(place, 16384, length, userData: 2);
        RingCompletion[] ended = stage.Run();
        stage.World.Fabric.OnDma = null;
        foreach (RingCompletion completion in ended)
        {
            // What was written is read again where the device goes on after all this.
            bool isRead = completion.UserData == 1;
            if (completion.Status != Errno.Ok || (!isRead && ended.Any(static e => e.Status != Errno.Ok)))
                continue;
            byte[] found = new byte[length];
            if (isRead)
                stage.Buffer.Read(0, found);
            else
                found = stage.Target.Take(place, length);
            stage.World.Check(found.AsSpan().SequenceEqual(isRead ? data : written), "C4", $"DMA number {victim + 1} failed, and a {(isRead ? "read" : "write")} that did not bring its data ended with Ok.");
        }

        return Volatile.Read(ref count) > victim;
    }

    private void WithDriver(Action<ImporterStage> fact)
    {
        SkipUnless(PciFunctionCapabilities.Driver);
        RunOnStage(world => new ImporterStage(world, new DriverFixture(Fixture), new StageSetup()), fact);
    }

    private sealed class DriverFixture(IPciFunctionFixture inner) : IImporterFixture
    {
        public string? PluginFolder => inner.PluginFolder;

        public ImporterCapabilities Capabilities => ImporterCapabilities.KeepsData | ImporterCapabilities.MovesData;

        public ImporterTarget Open(ContractWorld world) => inner.OpenWithDriver(world);
    }
}
