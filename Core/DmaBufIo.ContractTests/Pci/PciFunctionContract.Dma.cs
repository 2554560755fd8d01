using System.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Pci;

namespace DmaBufIo.ContractTests;

/// <content>Memory, the end of a function, interrupts (C3 to C6).</content>
public abstract partial class PciFunctionContract
{
    // How long a fact looks whether a function goes on without waiting for its DMA: it decides only whether a wrong one is found, never whether a right one passes.
    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(150);

    /// <summary>The function writes the page it was given, every time, and nothing beside it.</summary>
    [Fact]
    public virtual void C4_DMA_goes_where_it_was_told_and_nowhere_else() => OnStage(stage =>
    {
        SkipUnless(PciFunctionCapabilities.Dma);
        stage.Work.Start();
        for (int i = 0; i < 20; i++)
        {
            stage.Transfer("C4");
            stage.Unmap();
        }
    });

    /// <summary>An address at which nothing is mapped, or nothing any more: the command ends with an error, no memory is touched, and a reset brings the function back.</summary>
    [Fact]
    public virtual void C4_an_address_that_is_not_mapped_ends_the_command_with_an_error() => OnStage(
        stage =>
        {
            SkipUnless(PciFunctionCapabilities.Dma);
            stage.Work.Start();
            stage.Transfer("C4");
            for (int round = 0; round < 4; round++)
            {
                ulong gone = stage.Unmap();
                stage.Clear();
                ulong address = round % 2 == 0 ? gone : 0x7FFF_FFFF_F000;
                stage.Work.Begin(address);
                bool ok = stage.Await("C4", $"a DMA to 0x{address:x}, where nothing is mapped,");
                stage.World.Check(!ok, "C4", $"the function says that it has written 0x{address:x}, where nothing is mapped.");
                stage.World.Check(!stage.IsTouched(0) && !stage.IsTouched(1) && !stage.IsTouched(2), "C4", "memory was written that is not mapped for the function any more.");
                stage.Function.Reset();
                stage.Work.Start();
                stage.Transfer("C4");
            }
        },
        expectFaults: true);

    /// <summary>A function that was disposed reads all ones, ignores everything, calls nobody, and its device has left the fabric.</summary>
    [Fact]
    public virtual void C5_a_function_that_was_disposed_is_gone() => OnStage(stage =>
    {
        PciFunction function = stage.Function;
        string device = function.AddressSpace.Name;
        int calls = 0;
        for (int vector = 0; vector < function.InterruptVectors; vector++)
            function.SetInterruptHandler(vector, () => Interlocked.Increment(ref calls));
        if (Can(PciFunctionCapabilities.Dma))
        {
            stage.Work.Start();
            stage.Transfer("C5");
            stage.Unmap();
            function.Reset();
            stage.EndWork();
        }

        Unharmed(stage, "C5", "When it was disposed,", function.Dispose);
        int sofar = Volatile.Read(ref calls);
        for (int bar = 0; bar < 6; bar++)
        {
            for (long offset = 0; offset < Math.Min(function.BarLength(bar), 4096); offset += 4)
            {
                uint value = Unharmed(stage, "C5", "When a register was read after its disposal,", () => function.Read32(bar, offset));
                stage.World.Check(value == uint.MaxValue, "C5", $"after its disposal the register at 0x{offset:x} of BAR {bar} reads 0x{value:x}.");
                Unharmed(stage, "C5", "When a register was written after its disposal,", () => function.Write32(bar, offset, 1));
            }
        }

        Unharmed(stage, "C5", "When it was advanced after its disposal,", function.Advance);
        Unharmed(stage, "C5", "When it was reset after its disposal,", function.Reset);
        Unharmed(stage, "C5", "When it was disposed again,", function.Dispose);
        stage.World.Check(Volatile.Read(ref calls) == sofar, "C5", "an interrupt handler was called after the function was disposed.");
        bool isFree = true;
        try
        {
            stage.World.Iommu.RemoveDevice(stage.World.Iommu.AddDevice(device).Space);
        }
        catch (DmaBufIoException e) when (e.Errno == Errno.EEXIST)
        {
            isFree = false;
        }

        stage.World.Check(isFree, "C5", $"the function was disposed, and its device {device} is still in the fabric.");
        stage.World.Eventually(() => stage.Before.LeftThreads().Count == 0, "C5", () => $"the function was disposed, and threads are left: {string.Join(", ", stage.Before.LeftThreads())}.");
    });

    /// <summary>For each DMA that has ended its vector is called, and no other one.</summary>
    [Fact]
    public virtual void C6_every_completion_calls_the_handler_of_its_vector() => OnStage(stage =>
    {
        SkipUnless(PciFunctionCapabilities.Dma | PciFunctionCapabilities.Interrupts);
        long calls = 0;
        long others = 0;
        int mine = stage.Work.Vector;
        stage.World.Check(mine >= 0 && mine < stage.Function.InterruptVectors, "C6", $"the work's vector is {mine}, and the function has {stage.Function.InterruptVectors}.");
        for (int vector = 0; vector < stage.Function.InterruptVectors; vector++)
        {
            bool isMine = vector == mine;
            stage.Function.SetInterruptHandler(vector, () =>
            {
                if (isMine)
                    Interlocked.Increment(ref calls);
                else
                    Interlocked.Increment(ref others);
            });
        }

        stage.Work.Start();
        for (int round = 0; round < 60; round++)
        {
            long before = Interlocked.Read(ref calls);
            stage.Clear();
            stage.Work.Begin(stage.Address);

            // An inline model works when it is looked at.
            stage.World.Eventually(
                () =>
                {
                    stage.Function.Advance();
                    return Interlocked.Read(ref calls) != before;
                },
                "C6",
                "a DMA was begun, and no interrupt came.");
            bool ok = stage.Await("C6", "a DMA whose interrupt has come");
            stage.World.Check(ok && stage.IsTouched(1), "C6", "an interrupt came, and the DMA has not been done well.");
        }

        stage.World.Check(Interlocked.Read(ref others) == 0, "C6", $"{others} interrupts came on other vectors than {mine}.");
        long sofar = Interlocked.Read(ref calls);
        stage.Function.Reset();
        stage.Work.Start();
        stage.Function.Advance();
        stage.World.Check(Interlocked.Read(ref others) == 0 && Interlocked.Read(ref calls) <= sofar + 2, "C6", "interrupts came without a cause.");

        // Nobody listens: the work is done all the same.
        for (int vector = 0; vector < stage.Function.InterruptVectors; vector++)
            stage.Function.SetInterruptHandler(vector, null);
        stage.Transfer("C6");
    });

    /// <summary>An interrupt does not come before the DMA that it tells of has ended.</summary>
    [Fact]
    public virtual void C6_no_interrupt_comes_before_its_completion() => OnStage(stage =>
    {
        SkipUnless(PciFunctionCapabilities.Dma | PciFunctionCapabilities.Interrupts | PciFunctionCapabilities.Model);
        long calls = 0;
        for (int vector = 0; vector < stage.Function.InterruptVectors; vector++)
            stage.Function.SetInterruptHandler(vector, () => Interlocked.Increment(ref calls));
        stage.Work.Start();
        stage.Transfer("C6");

        // A DMA may be found to have ended before its interrupt comes.
        stage.World.Eventually(() => Interlocked.Read(ref calls) > 0, "C6", "a DMA has ended, and no interrupt came.");
        ulong address = stage.Address;
        bool isEarly = true;

        // An interrupt of something that was before may be late, once or twice: one that comes before its completion comes each time.
        for (int attempt = 0; attempt < 4 && isEarly; attempt++)
        {
            using var hold = new DmaHold(stage.World.Fabric, PciFunctionStage.MemoryName);
            long before = Interlocked.Read(ref calls);
            IActor driver = stage.World.Actors.Start("driver", () =>
            {
                stage.Work.Begin(address);
                stage.Await("C6", "a DMA");
            });
            stage.World.Eventually(() => hold.IsHeld, "C6", "the function did not begin its DMA.");
            long under = Interlocked.Read(ref calls);
            isEarly = under != before;
            hold.Release();
            driver.Join();
            if (!isEarly)
                stage.World.Eventually(() => Interlocked.Read(ref calls) > under, "C6", "a DMA has ended, and no interrupt came.");
        }

        stage.World.Check(!isEarly, "C6", "an interrupt came while the DMA that it tells of was under way, each time.");
    });

    /// <summary>A reset under DMA returns when the DMA has ended.</summary>
    [Fact]
    public virtual void C3_DMA_has_ended_when_a_reset_returns() => OnStage(stage =>
    {
        SkipUnless(PciFunctionCapabilities.Dma | PciFunctionCapabilities.Model);
        stage.Work.Start();
        stage.Transfer("C3");
        ulong address = stage.Address;
        using var hold = new DmaHold(stage.World.Fabric, PciFunctionStage.MemoryName);
        bool hasReturned = false;
        bool wasLate = false;
        stage.World.Fabric.AfterDma = dma => wasLate |= Volatile.Read(ref hasReturned);
        IActor driver = stage.World.Actors.Start("driver", () =>
        {
            stage.Work.Begin(address);

            // An inline model does its DMA in here; it is over when the other thread has come to its end.
            while (!Volatile.Read(ref hasReturned) && stage.Work.Poll() is null)
                Thread.Yield();
        });
        stage.World.Eventually(() => hold.IsHeld, "C3", "the function did not begin its DMA.");
        IActor resetter = stage.World.Actors.Start("resetter", () =>
        {
            stage.Function.Reset();
            Volatile.Write(ref hasReturned, true);
        });
        long started = Stopwatch.GetTimestamp();
        while (!resetter.HasEnded && Stopwatch.GetElapsedTime(started) < s_look)
            Thread.Yield();
        stage.World.Check(!Volatile.Read(ref hasReturned), "C3", "a reset returned while a DMA of the function was under way.");
        hold.Release();
        resetter.Join();
        driver.Join();
        stage.World.Check(!wasLate, "C3", "a DMA of the function ended after a reset had returned.");
        stage.World.Fabric.AfterDma = null;
    });
}
