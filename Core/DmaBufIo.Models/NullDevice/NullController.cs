using System.Buffers.Binary;
using System.Text;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci;

namespace DmaBufIo.Models.NullDevice;

/// <summary>
/// An NVMe controller that completes commands and moves nothing, so that the cost of software is seen apart from the movement of data. Has no thread:
/// works when a doorbell is rung. Polled: it has no interrupts.
/// </summary>
/// <remarks>
/// Its own cost is part of what is measured: a load of the command, a check of its range, a store of its completion. Queue memory is translated once
/// (<see cref="DmaWindow"/>); the addresses of data are not looked at, so faults in them are not found here.
/// </remarks>
public sealed partial class NullController
{
    private const ulong Success = 0;
    private const ulong InvalidOpcode = 0x01;
    private const ulong InvalidField = 0x02;
    private const ulong DataTransferError = 0x04;
    private const ulong CompletionQueueInvalid = 0x100;
    private const ulong InvalidQueueIdentifier = 0x101;
    private const ulong InvalidQueueSize = 0x102;

    private readonly NullControllerOptions _options;
    private readonly IDmaFabric _fabric;
    private readonly DmaPort _port;
    private readonly Lock _control = new();
    private readonly NullQueuePair?[] _pairs;
    private readonly long _barLength;
    private readonly Dictionary<int, (DmaWindow Window, uint Entries)> _completionQueues = [];
    private readonly List<string> _problems = [];
    private readonly byte[] _page = new byte[4096];
    private uint _adminEntries;
    private uint _adminCompletionEntries;
    private uint _adminHead;
    private uint _adminTail;
    private ulong _adminPhase;
    private bool _disposed;

    /// <summary>Creates the function, disabled.</summary>
    /// <param name="options">What it is made of.</param>
    /// <param name="fabric">Where it gets its address space.</param>
    /// <exception cref="DmaBufIoException">An option is out of its range (<c>EINVAL</c>).</exception>
    public NullController(NullControllerOptions options, IDmaFabric fabric)
    {
        options.Validate();
        _options = options;
        _fabric = fabric;
        _pairs = new NullQueuePair?[options.MaxQueues + 1];

        // A power of two, as every BAR, and at least the 16 KiB that drivers expect.
        _barLength = Math.Max(16384, (long)System.Numerics.BitOperations.RoundUpToPowerOf2((ulong)Doorbells + ((ulong)(options.MaxQueues + 1) * 8)));
        (AddressSpace, _port) = fabric.AddDevice(options.Name);
    }

    /// <inheritdoc/>
    public override string Name => _options.Name;

    /// <inheritdoc/>
    public override Devices.DeviceLocation? Location => _options.Location;

    /// <inheritdoc/>
    public override PciIdentity Identity { get; } = new(0xDB10, 0x0002, 0x010802);

    /// <inheritdoc/>
    public override DmaAddressSpace AddressSpace { get; }

    /// <inheritdoc/>
    public override int InterruptVectors => 0;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Problems
    {
        get
        {
            lock (_problems)
                return [.. _problems];
        }
    }

    private int MaxQueues => _options.MaxQueues;

    private ulong Blocks => (ulong)(_options.SizeBytes / _options.LbaSize);

    /// <inheritdoc/>
    public override void SetInterruptHandler(int vector, Action? handler) => throw new DmaBufIoException(
        Errno.EINVAL, "Models", Name, "the function has no interrupt vectors", "Poll it");

    /// <inheritdoc/>
    public override void Reset()
    {
        lock (_control)
        {
            if (_disposed)
                return;
            Stop();
            Volatile.Write(ref _cc, 0);
            _aqa = 0;
            _asq = 0;
            _acq = 0;
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        lock (_control)
        {
            if (_disposed)
                return;
            Volatile.Write(ref _disposed, true);
            Stop();
        }

        _fabric.RemoveDevice(AddressSpace);
    }

    private bool StartAdmin()
    {
        _adminEntries = (_aqa & 0xFFF) + 1;
        _adminCompletionEntries = ((_aqa >> 16) & 0xFFF) + 1;
        _adminHead = 0;
        _adminTail = 0;
        _adminPhase = 1;
        return _adminEntries > 1 && _adminCompletionEntries > 1;
    }

    // Admin commands are few: each access is one DMA, translated and checked.
    private void WorkAdmin(uint tail)
    {
        Span<byte> command = stackalloc byte[64];
        Span<byte> completion = stackalloc byte[16];
        if ((_csts & (Ready | Fatal)) != Ready || tail >= _adminEntries)
        {
            Fail($"the admin queue was rung with {tail} while CSTS was {_csts}");
            return;
        }

        while (_adminHead != tail)
        {
            if (_port.Read(_asq + (_adminHead * 64UL), command) != Errno.Ok)
            {
                Fail("the admin submission queue cannot be read");
                return;
            }

            _adminHead = (_adminHead + 1) % _adminEntries;
            ulong status = Execute(command, out uint result);
            ushort identifier = BinaryPrimitives.ReadUInt16LittleEndian(command[2..]);
            BinaryPrimitives.WriteUInt64LittleEndian(completion, result);
            BinaryPrimitives.WriteUInt64LittleEndian(completion[8..], _adminHead | ((ulong)identifier << 32) | (_adminPhase << 48) | (status << 49));
            if (_port.Write(_acq + (_adminTail * 16UL), completion) != Errno.Ok)
            {
                Fail("the admin completion queue cannot be written");
                return;
            }

            if (++_adminTail == _adminCompletionEntries)
            {
                _adminTail = 0;
                _adminPhase ^= 1;
            }
        }
    }

    private ulong Execute(ReadOnlySpan<byte> command, out uint result)
    {
        result = 0;
        uint dword10 = BinaryPrimitives.ReadUInt32LittleEndian(command[40..]);
        uint dword11 = BinaryPrimitives.ReadUInt32LittleEndian(command[44..]);
        ulong prp1 = BinaryPrimitives.ReadUInt64LittleEndian(command[24..]);
        int id = (int)(dword10 & 0xFFFF);
        uint entries = (dword10 >> 16) + 1;
        switch (command[0])
        {
            case 0x00:
                return DeletePair(id);
            case 0x01:
                return CreatePair(id, entries, prp1, (int)(dword11 >> 16));
            case 0x04:
                return DeleteCompletionQueue(id);
            case 0x05:
                return CreateCompletionQueue(id, entries, prp1);
            case 0x06:
                return Identify(dword10 & 0xFF, BinaryPrimitives.ReadUInt32LittleEndian(command[4..]), prp1);
            case 0x09 when (dword10 & 0xFF) == 0x07:
                uint most = (uint)MaxQueues - 1;
                result = Math.Min(dword11 & 0xFFFF, most) | (Math.Min(dword11 >> 16, most) << 16);
                return Success;
            default:
                return InvalidOpcode;
        }
    }

    private ulong CreateCompletionQueue(int id, uint entries, ulong address)
    {
        if (id < 1 || id > MaxQueues || _completionQueues.ContainsKey(id))
            return InvalidQueueIdentifier;
        if (entries < 2 || entries > _options.MaxQueueEntries)
            return InvalidQueueSize;
        if (_port.OpenWindow(address, (int)entries * 16, DmaDirection.FromDevice) is not { } window)
            return DataTransferError;
        _completionQueues.Add(id, (window, entries));
        return Success;
    }

    // One submission queue to one completion queue of the same number: all that drivers make of a polled pair.
    private ulong CreatePair(int id, uint entries, ulong address, int completionId)
    {
        if (id < 1 || id > MaxQueues || _pairs[id] is not null)
            return InvalidQueueIdentifier;
        if (entries < 2 || entries > _options.MaxQueueEntries)
            return InvalidQueueSize;
        if (completionId != id || !_completionQueues.TryGetValue(id, out (DmaWindow Window, uint Entries) completions))
            return CompletionQueueInvalid;
        if (_port.OpenWindow(address, (int)entries * 64, DmaDirection.ToDevice) is not { } window)
            return DataTransferError;
        _pairs[id] = new NullQueuePair(id, window, entries, completions.Window, completions.Entries, Blocks);
        return Success;
    }

    private ulong DeletePair(int id)
    {
        if (id < 1 || id > MaxQueues || _pairs[id] is not { } pair)
            return InvalidQueueIdentifier;
        _pairs[id] = null;
        pair.Dispose();
        return Success;
    }

    private ulong DeleteCompletionQueue(int id)
    {
        if (id < 1 || id > MaxQueues || _pairs[id] is not null || !_completionQueues.Remove(id, out (DmaWindow Window, uint Entries) queue))
            return InvalidQueueIdentifier;
        queue.Window.Dispose();
        return Success;
    }

    private ulong Identify(uint structure, uint nsid, ulong address)
    {
        Span<byte> data = _page;
        data.Clear();
        switch (structure)
        {
            case 0 when nsid == 1:
                BinaryPrimitives.WriteUInt64LittleEndian(data, Blocks);
                BinaryPrimitives.WriteUInt64LittleEndian(data[8..], Blocks);
                BinaryPrimitives.WriteUInt64LittleEndian(data[16..], Blocks);
                data[130] = (byte)int.Log2(_options.LbaSize);
                break;
            case 1:
                data[4..72].Fill((byte)' ');
                Encoding.ASCII.GetBytes("0", data[4..]);
                Encoding.ASCII.GetBytes("DmaBufIo null controller", data[24..]);
                Encoding.ASCII.GetBytes("0.1", data[64..]);
                data[77] = (byte)_options.Mdts;
                data[512] = 0x66;
                data[513] = 0x44;
                data[516] = 1;
                break;
            case 2:
                data[0] = (byte)(nsid == 0 ? 1 : 0);
                break;
            default:
                return InvalidField;
        }

        return _port.Write(address, data) == Errno.Ok ? Success : DataTransferError;
    }
}
