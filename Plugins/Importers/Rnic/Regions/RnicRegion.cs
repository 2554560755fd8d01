using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Rdma;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.Rnic.Regions;

/// <summary>A memory region of a card.</summary>
internal sealed class RnicRegion : RdmaMemoryRegion
{
    private readonly RnicDevice _device;
    private uint _localKey;
    private uint _remoteKey;
    private volatile bool _isDeregistered;

    internal RnicRegion(RnicDevice device, DmaBuf buffer, RdmaAccess access, TokenOptions options)
    {
        _device = device;
        Access = access;
        DmaDirection direction = DmaDirection.ToDevice | ((access & RdmaAccess.LocalWrite) != 0 ? DmaDirection.FromDevice : DmaDirection.None);
        Token = DmaBufToken.Create(device, buffer, direction, options, (b, d) => new RangeTokenDriver(b, d, device.Device));
    }

    /// <inheritdoc/>
    public override DmaBuf Buffer => Token.Buffer;

    /// <inheritdoc/>
    public override RdmaAccess Access { get; }

    /// <inheritdoc/>
    public override uint LocalKey => _localKey;

    /// <inheritdoc/>
    public override uint RemoteKey => _remoteKey;

    /// <inheritdoc/>
    public override DmaBufToken Token { get; }

    /// <inheritdoc/>
    public override bool IsDeregistered => _isDeregistered;

    /// <inheritdoc/>
    public override void Deregister(CancellationToken cancellationToken = default)
    {
        if (_device.TryForget(this))
            Token.Release();
        if (Token.WaitReleased(cancellationToken) != Errno.Ok)
            throw RnicError.Make(Errno.EINTR, ToString(), "the wait for the end of the region was cancelled", "Call Deregister again to wait on");
    }

    /// <inheritdoc/>
    public override string ToString() => $"region 0x{_localKey:x} of {_device.Name} ({Buffer.Name})";

    /// <summary>Its keys have ended. With the card's lock held.</summary>
    internal void MarkDeregistered() => _isDeregistered = true;

    internal void SetKeys(uint local, uint remote)
    {
        _localKey = local;
        _remoteKey = remote;
    }

    /// <summary>True when the range leaves the buffer, or wraps.</summary>
    internal bool Leaves(long offset, long length) => (ulong)offset > (ulong)Buffer.Size || (ulong)length > (ulong)(Buffer.Size - offset);
}
