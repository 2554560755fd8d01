using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Tokens;

namespace DmaBufIo.Fixtures.FaultyImporter;

/// <summary>A card as a block device.</summary>
internal sealed class Disk(Card card, string name, Fault fault) : BlockDevice
{
    private readonly List<CardTokenDriver> _tokens = [];
    private int _liveMaps;

    public override string Name { get; } = name;

    public override long Capacity => card.Size;

    public override QueueLimits Limits { get; } = new(512) { MaxBytes = 256 << 10 };

    public override bool IsRemoved => Device.IsRemoved;

    public override string Description => $"card with {Capacity} bytes";

    internal DmaDevice Device { get; } = new(name, card.AddressSpace);

    internal Fault Fault { get; } = fault;

    internal CardBinding Binding { get; set; } = null!;

    /// <summary>Maps made and not unmapped.</summary>
    internal int LiveMaps => Volatile.Read(ref _liveMaps);

    public override BlockQueue OpenQueue(IoContext context, BioPool bios, int depth)
    {
        Device.ThrowIfRemoved("faulty-importer");
        return Binding.Open(context, bios, depth);
    }

    public override TokenDriver? CreateToken(DmaBuf buffer, DmaDirection direction)
    {
        if (Fault.Is("takes both directions only") && direction != DmaDirection.Bidirectional)
            return null;
        if (Fault.Is("takes no more than 1 GiB") && buffer.Size > 1 << 30)
            throw new DmaBufIoException(Errno.EINVAL, "faulty-importer", buffer.Name, "the buffer is larger than 1 GiB", "Register a smaller one", rule: "R7");
        return new CardTokenDriver(buffer, direction, this);
    }

    /// <summary>A registration has lists of the card's from now on.</summary>
    internal void Add(CardTokenDriver token)
    {
        lock (_tokens)
            _tokens.Add(token);
    }

    /// <summary>It has none any more.</summary>
    internal void Remove(CardTokenDriver token)
    {
        lock (_tokens)
            _tokens.Remove(token);
    }

    /// <summary>The card goes, and registrations may outlive it: what they have of the card's is given back now.</summary>
    internal void FreeLists()
    {
        CardTokenDriver[] tokens;
        lock (_tokens)
            tokens = [.. _tokens];
        foreach (CardTokenDriver token in tokens)
            token.FreeLists();
    }

    internal void CountMap(int change) => Interlocked.Add(ref _liveMaps, change);
}
