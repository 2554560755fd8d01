using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.Held;

public sealed class HeldDisk : BlockDevice, IDisposable
{
    private readonly IDmaFabric _fabric;
    private readonly Strings _strings;
    private readonly PuppetBlockDevice _puppet;
    private readonly DmaAddressSpace _space;
    private readonly bool _isStuck;

    public HeldDisk(string name, IDmaFabric fabric, Strings strings, bool isStuck)
    {
        _fabric = fabric;
        _strings = strings;
        _isStuck = isStuck;
        (_space, DmaPort port) = fabric.AddDevice(name);
        _puppet = new PuppetBlockDevice(name, _space, port, 1 << 20, new QueueLimits(512));
        strings.Give(_puppet);
    }

    public override string Name => _puppet.Name;

    public override long Capacity => _puppet.Capacity;

    public override QueueLimits Limits => _puppet.Limits;

    public override bool IsRemoved => _puppet.IsRemoved;

    public override string Description => "a disk that holds requests";

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth) => _puppet.OpenQueue(context, bios, depth);

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction) => _puppet.CreateToken(buffer, direction);

    // T11: gone first, so that nothing new is held; then what is held ends; then the maps.
    public void Dispose()
    {
        if (_isStuck)
            _strings.AwaitClose();
        _puppet.Device.MarkRemoved();
        _puppet.Hold = false;
        _puppet.CancelHeld(Errno.ECANCELED);
        _puppet.Device.Remove();
        _fabric.RemoveDevice(_space);
    }
}
