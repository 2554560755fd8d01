using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyBlockDevice;

/// <summary>A device on one other: cuts every bio into parts and hands them on.</summary>
internal sealed class FaultyStack : BlockDevice, IDisposable
{
    private readonly IDmaFabric _fabric;
    private readonly DmaAddressSpace? _space;
    private readonly DmaDevice? _own;

    internal FaultyStack(IDmaFabric fabric, string name, BlockDevice member, Fault fault)
    {
        _fabric = fabric;
        Name = name;
        Member = member;
        Fault = fault;
        if (!fault.Is("registers-itself"))
            return;
        (_space, _) = fabric.AddDevice(name);
        _own = new DmaDevice(name, _space);
    }

    public override string Name { get; }

    public override long Capacity => Member.Capacity;

    public override QueueLimits Limits => Member.Limits;

    public override bool IsRemoved => Member.IsRemoved;

    public override bool IsReadOnly => Member.IsReadOnly;

    public override string Description => $"a device with a fault on {Member.Name}";

    internal BlockDevice Member { get; }

    internal Fault Fault { get; }

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => new FaultyStackQueue(this, context, bios, depth);

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) =>
        _own is not null ? new RangeTokenDriver(buffer, direction, _own)
        : new CompositeTokenDriver(buffer, direction, Name, [new CompositeMember(Member.Name, Member.CreateToken)]);

    public void Dispose()
    {
        if (_space is null)
            return;
        _own!.Remove();
        _fabric.RemoveDevice(_space);
    }
}
