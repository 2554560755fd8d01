using System.Buffers.Binary;
using DmaBufIo.Dma;
using DmaBufIo.Memory;
using DmaBufIo.Pci;

namespace DmaBufIo.ContractTests.Tests.Own;

/// <summary>As little of a driver as makes an NVMe controller write a page: its admin queue, and Identify Controller.</summary>
internal sealed class NvmeWork(PciFunction function) : FunctionWork
{
    private const int Entries = 16;
    private const long Cc = 0x14;
    private const long Csts = 0x1C;
    private readonly MemoryRegion _memory = MemoryRegion.Allocate("admin queues", 8192);
    private DeviceRange? _range;
    private int _tail;
    private int _head;
    private uint _phase;
    private ushort _identifier;

    public override int Vector => function.InterruptVectors > 0 ? 0 : -1;

    public override void Start()
    {
        _range ??= function.AddressSpace.Map(new MemoryRange(_memory, 0, 8192), DmaDirection.Bidirectional, "admin queues");
        _memory.Fill(0);
        (_tail, _head, _phase) = (0, 0, 1);
        function.Write32(0, Cc, 0);
        Until(0);
        function.Write32(0, 0x24, (Entries - 1) | ((Entries - 1) << 16));
        function.Write64(0, 0x28, _range.Address);
        function.Write64(0, 0x30, _range.Address + 4096);
        function.Write32(0, Cc, 1 | (6 << 16) | (4 << 20));
        Until(1);
    }

    public override void Begin(ulong address)
    {
        Span<byte> command = _memory.Span(_tail * 64, 64);
        command.Clear();
        command[0] = 0x06;
        BinaryPrimitives.WriteUInt16LittleEndian(command[2..], ++_identifier);
        BinaryPrimitives.WriteUInt64LittleEndian(command[24..], address);
        BinaryPrimitives.WriteUInt32LittleEndian(command[40..], 1);
        _tail = (_tail + 1) % Entries;
        function.Write32(0, 0x1000, (uint)_tail);
    }

    public override bool? Poll()
    {
        function.Advance();
        uint last = BinaryPrimitives.ReadUInt32LittleEndian(_memory.Span(4096 + (_head * 16) + 12, 4));
        if (((last >> 16) & 1) != _phase)
            return null;
        if (++_head == Entries)
        {
            _head = 0;
            _phase ^= 1;
        }

        function.Write32(0, 0x1004, (uint)_head);
        return ((last >> 17) & 0x7FF) == 0;
    }

    public override void Dispose()
    {
        if (_range is not null)
            function.AddressSpace.Unmap(_range);
        _range = null;
        _memory.Dispose();
    }

    private void Until(uint ready)
    {
        while ((function.Read32(0, Csts) & 1) != ready)
            function.Advance();
    }
}
