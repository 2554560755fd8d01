using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Pci;

namespace DmaBufIo.Fixtures.FaultyImporter;

/// <summary>
/// The hardware: memory, and an engine on a thread of its own that works the queues it was given, one command after the other. It has no registers: the driver calls it.
/// </summary>
internal sealed class Card : PciFunction
{
    private readonly IDmaFabric _fabric;
    private readonly MemoryRegion _store;
    private readonly Lock _working = new(); // held while a command runs
    private readonly Thread _engine;
    private CommandQueue[] _queues = [];
    private volatile bool _isStopped;
    private volatile bool _isEnding;

    internal Card(IDmaFabric fabric, string name, long size)
    {
        _fabric = fabric;
        Name = name;
        _store = MemoryRegion.Allocate(name, size);
        (AddressSpace, Port) = fabric.AddDevice(name);
        _engine = new Thread(Work) { Name = name, IsBackground = true };
        _engine.Start();
    }

    /// <summary>What configuration space says.</summary>
    internal static PciIdentity WellKnown { get; } = new(0xDB10, 0xFA17, 0x018000);

    public override string Name { get; }

    public override PciIdentity Identity => WellKnown;

    public override DmaAddressSpace AddressSpace { get; }

    public override int InterruptVectors => 0;

    internal DmaPort Port { get; }

    internal long Size => _store.Length;

    public override long BarLength(int bar) => 0;

    public override uint Read32(int bar, long offset) => uint.MaxValue;

    public override void Write32(int bar, long offset, uint value)
    {
    }

    public override void SetInterruptHandler(int vector, Action? handler) =>
        throw new DmaBufIoException(Errno.EINVAL, "faulty-importer", Name, "the card has no interrupts", "Poll it");

    public override void Reset() => Stop();

    /// <summary>No command is begun any more, and none is under way when it returns.</summary>
    internal void Stop()
    {
        _isStopped = true;
        lock (_working)
        {
            // Whoever gets the lock now sees that the engine is stopped.
        }
    }

    /// <summary>The engine works again.</summary>
    internal void Start() => _isStopped = false;

    /// <summary>Gives the engine one more queue, or takes one away; commands of a queue that is taken away are not under way when it returns.</summary>
    internal void Change(Func<CommandQueue[], CommandQueue[]> change)
    {
        lock (_working)
            Volatile.Write(ref _queues, change(_queues));
    }

    public override void Dispose()
    {
        if (_isEnding)
            return;
        _isEnding = true;
        _engine.Join();
        _fabric.RemoveDevice(AddressSpace);
        _store.Dispose();
    }

    private void Work()
    {
        for (int idle = 0; !_isEnding; idle++)
        {
            foreach (CommandQueue queue in Volatile.Read(ref _queues))
            {
                while (WorkOne(queue))
                    idle = 0;
            }

            if (idle < 200)
                Thread.Yield();
            else
                Thread.Sleep(1);
        }
    }

    private bool WorkOne(CommandQueue queue)
    {
        lock (_working)
        {
            if (_isStopped || _isEnding || queue.Done == Volatile.Read(ref queue.Rung) || Array.IndexOf(_queues, queue) < 0)
                return false;
            ref Command command = ref queue[queue.Done];
            if (command.Map is CardMap { IsDoneEarly: true } map && map.InLastPiece(command.Bio) is var last && last < command.Bio.Size)
            {
                DoInTwo(queue, command, last);
                return true;
            }

            command.Status = Do(command);
            Volatile.Write(ref queue.Done, queue.Done + 1);
            return true;
        }
    }

    private void DoInTwo(CommandQueue queue, Command command, long last)
    {
        Command first = command;
        first.Bio.Size -= last;
        queue[queue.Done].Status = Do(first);
        Volatile.Write(ref queue.Done, queue.Done + 1);
        command.Bio.Offset += first.Bio.Size;
        command.Bio.Sector += first.Bio.Size >> 9;
        command.Bio.Size = last;
        Do(command);
    }

    private Errno Do(in Command command)
    {
        Bio bio = command.Bio;
        return bio.Operation == BioOperation.Flush
            ? Errno.Ok // as durable as it gets
            : command.Map!.Move(Port, bio, _store.Span(bio.Sector << 9, (int)bio.Size));
    }
}

/// <summary>A command: a copy of the bio, and the map it is backed by.</summary>
internal struct Command
{
    internal BioHandle Handle;
    internal Bio Bio;
    internal ICardMemory? Map;
    internal Errno Status;
}

/// <summary>What driver and engine share: a circle of commands. The driver writes them and rings, the engine does them in order.</summary>
internal sealed class CommandQueue(int depth)
{
    private readonly Command[] _commands = new Command[depth];

    /// <summary>Commands rung so far. The driver's.</summary>
    internal long Rung;

    /// <summary>Commands done so far. The engine's.</summary>
    internal long Done;

    internal int Depth => _commands.Length;

    internal ref Command this[long number] => ref _commands[number % _commands.Length];
}

/// <summary>Memory as the card reaches it.</summary>
internal interface ICardMemory
{
    /// <summary>Moves the data of a bio between the card's memory and this.</summary>
    Errno Move(DmaPort port, in Bio bio, Span<byte> data);
}
