using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci;

namespace DmaBufIo.Fixtures.FaultyFunction;

/// <summary>
/// A disk with one command at a time: address, length and place (in bytes) in registers, then GO. Works on a thread of its own; vector 1 tells that a command has ended.
/// </summary>
internal sealed class SmallFunction : PciFunction
{
    internal const long Control = 0x04;
    internal const long Status = 0x08;
    internal const long AddressLow = 0x10;
    internal const long AddressHigh = 0x14;
    internal const long Length = 0x18;
    internal const long Place = 0x1C;
    internal const long Go = 0x20;
    internal const long Clock = 0x40;
    internal const uint Idle = 0;
    internal const uint Busy = 1;
    internal const uint Done = 2;
    internal const uint Failed = 3;
    private const int BarSize = 256;

    private readonly IDmaFabric _fabric;
    private readonly DmaPort _port;
    private readonly Fault _fault;
    private readonly byte[] _store;
    private readonly Lock _engine = new(); // held while a command runs
    private readonly Lock _state = new();
    private readonly uint[] _registers = new uint[BarSize / 4];
    private readonly Action?[] _handlers = new Action?[2];
    private readonly AutoResetEvent _wake = new(false);
    private readonly Thread _thread;
    private uint _command;
    private int _resets;
    private int _event; // the command at whose beginning it is told
    private int _ended;
    private volatile bool _gone;
    private bool _disposed;

    internal SmallFunction(string name, DeviceLocation location, int size, IDmaFabric fabric, Fault fault)
    {
        Name = name;
        Location = location;
        _fabric = fabric;
        _fault = fault;
        _store = new byte[size];
        (AddressSpace, _port) = fabric.AddDevice(name);
        _thread = new Thread(Run) { Name = name, IsBackground = true };
        _thread.Start();
    }

    public override string Name { get; }

    public override DeviceLocation? Location { get; }

    public override PciIdentity Identity => new(0xDB10, _resets > 0 && _fault.Is("identity-changes") ? (ushort)0xFA18 : (ushort)0xFA17, 0x010000);

    public override DmaAddressSpace AddressSpace { get; }

    public override int InterruptVectors => _resets > 0 && _fault.Is("vectors-change") ? 1 : 2;

    internal int Size => _store.Length;

    /// <summary>A register tells the time.</summary>
    internal bool HasClock { get; init; }

    /// <summary>After it was enabled it interrupts once more than its commands do, and not at once.</summary>
    internal bool HasEvents { get; init; }

    public override long BarLength(int bar) => bar != 0 ? 0 : _fault.Is("odd-bar") ? BarSize - 12 : BarSize;

    public override uint Read32(int bar, long offset)
    {
        if (_gone && !_fault.Is("answers-when-gone"))
            return uint.MaxValue;
        if (_fault.Is("offset-in-8-bits"))
            offset = (byte)offset;
        if (bar != 0 || (ulong)offset >= BarSize)
            return _fault.Is("reads-0-outside") ? 0 : uint.MaxValue;
        lock (_state)
            return offset == Clock && HasClock ? (uint)(Environment.TickCount64 / 100) : offset == 0 ? 0xFA017 : offset == Go ? 0 : _registers[offset / 4];
    }

    public override void Write32(int bar, long offset, uint value)
    {
        if (_fault.Is("offset-in-8-bits"))
            offset = (byte)offset;
        if (_fault.Is("throws-outside") && bar == 0 && offset == BarSize)
            throw new InvalidOperationException("no such register");
        if (_gone || bar != 0 || (ulong)offset >= BarSize)
            return;
        lock (_state)
        {
            if (offset is Control or AddressLow or AddressHigh or Length or Place)
                _registers[offset / 4] = offset == Control ? value & 1 : value;
            if (offset == Control && value != 0 && HasEvents)
                _event = 2;
            if (offset != Go || value is < 1 or > 3 || _registers[Control / 4] == 0 || _registers[Status / 4] == Busy)
                return;
            _registers[Status / 4] = Busy;
            _command = value;
        }

        if (_fault.Is("interrupts-at-once"))
            Volatile.Read(ref _handlers[0])?.Invoke();
        _wake.Set();
    }

    public override void SetInterruptHandler(int vector, Action? handler) => Volatile.Write(ref _handlers[vector], handler);

    public override void Reset()
    {
        if (_gone)
            return;
        if (_fault.Is("reset-does-not-wait"))
        {
            Forget();
            return;
        }

        lock (_engine)
            Forget();
    }

    public override void Dispose()
    {
        lock (_state)
        {
            if (_disposed)
                return;
            _disposed = true;
        }

        _gone = true;
        if (!_fault.Is("thread-stays"))
        {
            _wake.Set();
            _thread.Join();
            _wake.Dispose();
        }

        if (!_fault.Is("stays-in-the-fabric"))
            _fabric.RemoveDevice(AddressSpace);
    }

    private void Forget()
    {
        lock (_state)
        {
            _resets++;
            _command = 0;
            if (!_fault.Is("reset-keeps-registers"))
                Array.Clear(_registers);
            _registers[Control / 4] = 0;
            _registers[Status / 4] = Idle;
        }
    }

    private void Run()
    {
        while (!_gone || _fault.Is("thread-stays"))
        {
            _wake.WaitOne();
            bool worked;
            lock (_engine)
                worked = TryWork();
            if (!worked || _gone || (_ended % 8 == 7 && _fault.Is("forgets-interrupts")))
                continue;
            Volatile.Read(ref _handlers[_fault.Is("wrong-vector") ? 0 : 1])?.Invoke();
        }
    }

    private bool TryWork()
    {
        uint command;
        ulong address;
        uint length;
        long place;
        int resets;
        lock (_state)
        {
            command = _command;
            _command = 0;
            address = _registers[AddressLow / 4] | ((ulong)_registers[AddressHigh / 4] << 32);
            length = _registers[Length / 4];
            place = _registers[Place / 4];
            resets = _resets;
        }

        if (command == 0 || _gone)
            return false;
        if (_event != 0 && --_event == 0)
            Volatile.Read(ref _handlers[1])?.Invoke();
        bool ok = command == 3 || Transfer(command, address, length, place) == Errno.Ok || _fault.Is("hides-faults")
            || (command == 2 && _fault.Is("hides-faults-of-writes"));
        lock (_state)
        {
            if (_resets == resets)
                _registers[Status / 4] = ok ? Done : Failed;
        }

        _ended++;
        return true;
    }

    private Errno Transfer(uint command, ulong address, uint length, long place)
    {
        if (length == 0 || length > _store.Length || place > _store.Length - length)
            return Errno.ENOSPC;
        if (command == 2)
            return _port.Read(address, _store.AsSpan((int)place, (int)length));
        Errno status = _port.Write(address, _store.AsSpan((int)place, (int)length));
        if (_fault.Is("writes-too-much"))
            _port.Write(address + length, [1]);
        return status;
    }
}
