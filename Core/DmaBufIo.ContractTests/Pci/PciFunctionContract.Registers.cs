using DmaBufIo.Pci;

namespace DmaBufIo.ContractTests;

/// <content>What a function is, its registers, its reset (C1 to C3).</content>
public abstract partial class PciFunctionContract
{
    /// <summary>Identity, BARs, vectors, name and address space are the same before and after work, handlers and reset.</summary>
    [Fact]
    public virtual void C1_what_a_function_is_does_not_change() => OnStage(stage =>
    {
        PciFunction function = stage.Function;
        (string, PciIdentity, int, object, string) before = WhatItIs(function);
        stage.World.Check(function.Name.Length > 0, "C1", "the function has no name.");
        Same("it was asked again");
        for (int vector = 0; vector < function.InterruptVectors; vector++)
            function.SetInterruptHandler(vector, static () => { });
        Same("interrupt handlers were set");
        if (Can(PciFunctionCapabilities.Dma))
        {
            stage.Work.Start();
            stage.Transfer("C1");
            Same("it has done a DMA");
        }

        function.Reset();
        Same("it was reset");

        void Same(string after) => stage.World.Check(WhatItIs(function).Equals(before), "C1", $"after {after} the function is {WhatItIs(function)}, and was {before}.");
    });

    /// <summary>A BAR is as large as configuration space can say.</summary>
    [Fact]
    public virtual void C1_a_BAR_is_a_power_of_two() => OnStage(stage =>
    {
        for (int bar = 0; bar < 6; bar++)
        {
            long length = stage.Function.BarLength(bar);
            stage.World.Check(length == 0 || (length >= 16 && long.IsPow2(length)), "C1", $"BAR {bar} has {length} bytes; it is a power of two of 16 or more, or not implemented.");
        }

        stage.World.Check(stage.Function.InterruptVectors is >= 0 and <= 2048, "C1", $"the function has {stage.Function.InterruptVectors} vectors; MSI-X has 2048 at most.");
    });

    /// <summary>Nobody answers outside a BAR.</summary>
    [Fact]
    public virtual void C2_a_read_outside_a_BAR_is_all_ones() => OnStage(stage =>
    {
        foreach ((int bar, long offset) in Outside(stage.Function))
        {
            uint half = Unharmed(stage, "C2", $"When 0x{offset:x} of BAR {bar} was read,", () => stage.Function.Read32(bar, offset));
            stage.World.Check(half == uint.MaxValue, "C2", $"BAR {bar} has 0x{stage.Function.BarLength(bar):x} bytes, and a read at 0x{offset:x} gives 0x{half:x}.");
            ulong whole = Unharmed(stage, "C2", $"When 64 bits at 0x{offset:x} of BAR {bar} were read,", () => stage.Function.Read64(bar, offset & -8));
            stage.World.Check(whole == ulong.MaxValue, "C2", $"BAR {bar} has 0x{stage.Function.BarLength(bar):x} bytes, and a read of 64 bits at 0x{offset & -8:x} gives 0x{whole:x}.");
        }
    });

    /// <summary>A write outside a BAR is lost.</summary>
    [Fact]
    public virtual void C2_a_write_outside_a_BAR_changes_nothing() => OnStage(stage =>
    {
        bool works = Can(PciFunctionCapabilities.Dma);
        if (works)
        {
            stage.Work.Start();
            stage.Transfer("C2");
        }

        Dictionary<(int, long), uint> before = Can(PciFunctionCapabilities.Model) ? stage.Registers() : [];
        foreach ((int bar, long offset) in Outside(stage.Function))
        {
            foreach (uint value in new uint[] { 1, 0, uint.MaxValue })
            {
                Unharmed(stage, "C2", $"When 0x{offset:x} of BAR {bar} was written,", () => stage.Function.Write32(bar, offset, value));
                Unharmed(stage, "C2", $"When 64 bits at 0x{offset & -8:x} of BAR {bar} were written,", () => stage.Function.Write64(bar, offset & -8, value));
            }

            if (Can(PciFunctionCapabilities.Model))
                stage.CheckRegisters(before, "C2", $"after writes at 0x{offset:x} of BAR {bar}, which has 0x{stage.Function.BarLength(bar):x} bytes,");
        }

        if (works)
            stage.Transfer("C2");
    });

    /// <summary>A function that has worked, or whose registers were written with anything, is after a reset as it was made, and works again.</summary>
    [Fact]
    public virtual void C3_a_reset_leaves_the_function_as_it_was_made() => OnStage(stage =>
    {
        SkipUnless(PciFunctionCapabilities.Model);
        Dictionary<(int, long), uint> made = stage.Registers();
        for (int round = 0; round < 3; round++)
        {
            if (Can(PciFunctionCapabilities.Dma))
            {
                stage.Work.Start();
                stage.Transfer("C3");
                if (round == 1)
                    stage.Work.Begin(stage.Address);
            }

            Unharmed(stage, "C3", "When it was reset,", stage.Function.Reset);
            stage.CheckRegisters(made, "C3", "after a reset");
        }

        if (!Can(PciFunctionCapabilities.Dma))
            return;
        stage.Work.Start();
        stage.Transfer("C3");
    });

    /// <summary>Any values in any registers harm nobody, and a reset makes good what they did.</summary>
    [Fact]
    public virtual void C3_a_reset_makes_any_writes_undone() => OnStage(
        stage =>
        {
            SkipUnless(PciFunctionCapabilities.Model);
            Dictionary<(int, long), uint> made = stage.Registers();
            int[] bars = [.. Enumerable.Range(0, 6).Where(b => stage.Function.BarLength(b) > 0)];
            SkipUnless(bars.Length > 0, "The function has no BAR.");
            Generated.Run(stage.World, "C3", GeneratedStep.Any, 25, 40, steps =>
            {
                foreach (GeneratedStep step in steps)
                {
                    int bar = bars[step.Kind % bars.Length];
                    long length = stage.Function.BarLength(bar);

                    // Half of them where registers are, at the beginning.
                    long offset = (step.Kind < 50 ? step.Place % Math.Min(length, 64) : step.Place * 4L % length) & -4;
                    uint value = step.Length switch { < 300 => (uint)step.Memory & 1, < 600 => (uint)step.Memory, _ => (uint)step.Memory * 429497 };
                    Unharmed(stage, "C3", $"When 0x{value:x} was written to 0x{offset:x} of BAR {bar},", () => stage.Function.Write32(bar, offset, value));
                    Unharmed(stage, "C3", "When it was advanced,", stage.Function.Advance);
                }

                Unharmed(stage, "C3", "When it was reset,", stage.Function.Reset);
                stage.CheckRegisters(made, "C3", "after writes and a reset");
            });
            if (!Can(PciFunctionCapabilities.Dma))
                return;
            stage.Work.Start();
            stage.Transfer("C3");
        },
        expectFaults: true); // a model that does DMA to an address that anybody wrote is refused it

    private static IEnumerable<(int Bar, long Offset)> Outside(PciFunction function)
    {
        for (int bar = 0; bar < 6; bar++)
        {
            long length = function.BarLength(bar);
            foreach (long offset in new[] { length, length + 4, length + 4096, length + 4100, 1L << 20, (1L << 32) + 4, (1L << 32) + 0x1008, -4, -4096, long.MaxValue - 7, long.MinValue + 8 })
            {
                if (offset < 0 || offset >= length)
                    yield return (bar, offset);
            }
        }
    }
}
