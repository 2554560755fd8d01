using DmaBufIo.Dma;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Pci;

namespace DmaBufIo.ContractTests;

/// <summary>A PCI function that no driver has, its work, and three pages of memory: the one in the middle is what the function is given.</summary>
internal sealed class PciFunctionStage : IStage
{
    /// <summary>The name of the memory, as the fabric's strings see it.</summary>
    internal const string MemoryName = "contract page";

    /// <summary>What the memory is filled with.</summary>
    internal const byte Fill = 0xA5;

    // A register that a clock of seconds is in changes within it. Waited for only where a register has another value than it should have.
    private static readonly TimeSpan s_clock = TimeSpan.FromSeconds(1.5);

    private const int PageSize = 4096;
    private readonly HashSet<(int Bar, long Offset)> _still = [];
    private readonly OpenedDevice _opened;
    private readonly MemoryRegion _memory;
    private readonly bool _hasWork;
    private DeviceRange? _mapped;
    private FunctionWork? _work;
    private bool _closed;

    internal PciFunctionStage(ContractWorld world, IPciFunctionFixture fixture, FunctionCatcher catcher)
    {
        World = world;
        Fixture = fixture;
        _hasWork = fixture.Capabilities.HasFlag(PciFunctionCapabilities.Dma);
        Before = ProcessProbe.Take();
        catcher.IsArmed = true;
        _opened = world.Host.Open(fixture.Expression(world));
        catcher.IsArmed = false;
        Function = catcher.Caught ?? throw new InvalidOperationException("The fixture's expression makes no PCI function.");
        catcher.Forget();
        _memory = MemoryRegion.Allocate(MemoryName, 3 * PageSize);
        world.AtGiveUp(Abandon);
    }

    internal ContractWorld World { get; }

    internal IPciFunctionFixture Fixture { get; }

    internal PciFunction Function { get; }

    /// <summary>The process before the function was made.</summary>
    internal ProcessProbe Before { get; }

    internal FunctionWork Work => _work ??= _hasWork ? Fixture.CreateWork(Function) : throw new InvalidOperationException("The fixture has no work.");

    /// <summary>The device address of the page in the middle; all three are mapped.</summary>
    internal ulong Address
    {
        get
        {
            _mapped ??= Function.AddressSpace.Map(new MemoryRange(_memory, 0, 3 * PageSize), DmaDirection.Bidirectional, MemoryName);
            return _mapped.Address + PageSize;
        }
    }

    /// <summary>Ends the mapping.</summary>
    /// <returns>The address at which nothing is any more.</returns>
    internal ulong Unmap()
    {
        ulong address = Address;
        Function.AddressSpace.Unmap(_mapped!);
        _mapped = null;
        return address;
    }

    internal void Clear() => _memory.Fill(Fill);

    /// <summary>A page of the memory: 1 is the one that the function is given.</summary>
    internal ReadOnlySpan<byte> Page(int number) => _memory.Span(number * PageSize, PageSize);

    internal bool IsTouched(int page) => Page(page).ContainsAnyExcept(Fill);

    /// <summary>Waits for the end of what was begun.</summary>
    internal bool Await(string rule, string what)
    {
        bool? result = null;
        World.Eventually(() => (result = Work.Poll()) is not null, rule, $"{what} has not come to its end.");
        return result!.Value;
    }

    /// <summary>The work gives back what it has mapped.</summary>
    internal void EndWork()
    {
        _work?.Dispose();
        _work = null;
    }

    /// <summary>One DMA, start to end: the page is written, and nothing beside it.</summary>
    internal void Transfer(string rule)
    {
        Clear();
        Work.Begin(Address);
        World.Check(Await(rule, "a DMA to memory that is mapped"), rule, "a DMA to memory that is mapped ended with an error.");
        World.Check(IsTouched(1), rule, "the function says that it has written a page, and the page is as it was.");
        World.Check(!IsTouched(0) && !IsTouched(2), rule, "the function was given a page, and has written beside it.");
    }

    /// <summary>What all registers read: the stable ones, read twice, and how many bytes of each BAR.</summary>
    internal Dictionary<(int Bar, long Offset), uint> Registers()
    {
        var found = new Dictionary<(int Bar, long Offset), uint>();
        for (int bar = 0; bar < 6; bar++)
        {
            long length = Math.Min(Function.BarLength(bar), 16384);
            for (long offset = 0; offset < length; offset += 4)
            {
                uint value = Function.Read32(bar, offset);
                if (Function.Read32(bar, offset) == value)
                    found[(bar, offset)] = value;
            }
        }

        return found;
    }

    internal void CheckRegisters(Dictionary<(int Bar, long Offset), uint> before, string rule, string after)
    {
        foreach (((int bar, long offset), uint value) in Registers())
        {
            if (before.TryGetValue((bar, offset), out uint expected) && value != expected && !IsClock(bar, offset))
                throw World.Broken(rule, $"{after} the register at 0x{offset:x} of BAR {bar} reads 0x{value:x}, and read 0x{expected:x} before.");
        }
    }

    // What changes while nobody does anything counts something, the time for example.
    private bool IsClock(int bar, long offset)
    {
        if (_still.Contains((bar, offset)))
            return false;
        uint value = Function.Read32(bar, offset);
        bool isClock = Hang.Until(() => Function.Read32(bar, offset) != value, s_clock);
        if (!isClock)
            _still.Add((bar, offset));
        return isClock;
    }

    public void Close()
    {
        if (_closed)
            return;
        _closed = true;
        Function.Reset();
        EndWork();
        if (_mapped is not null)
            Function.AddressSpace.Unmap(_mapped);
        _opened.Dispose();
        _memory.Dispose();
    }

    /// <summary>The fact has found something: that is what is told, not what follows from it.</summary>
    private void Abandon()
    {
        _closed = true;
        World.Fabric.OnDma = null;
        World.Fabric.AfterDma = null;
    }
}
