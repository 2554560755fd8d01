using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Memory;

namespace DmaBufIo.Pci.Model.Tests.Host;

/// <summary>One arena of memory that every device sees at <see cref="Base"/>. Records each DMA; a range can be made to fault.</summary>
internal sealed class TestFabric : IDmaFabric, IDisposable
{
    internal const ulong Base = 0x1_0000_0000;
    private readonly MemoryRegion _arena;
    private readonly Lock _lock = new();
    private readonly List<DmaAccess> _accesses = [];
    private readonly List<Port> _ports = [];
    private long _used;

    internal TestFabric(long bytes = 32 << 20) => _arena = MemoryRegion.Allocate("arena", bytes);

    /// <summary>Accesses that touch [start, end) fault; empty when equal.</summary>
    internal (ulong Start, ulong End) Faulting { get; set; }

    /// <summary>Called before every DMA, on the device's thread.</summary>
    internal Action<DmaAccess>? OnAccess { get; set; }

    /// <summary>Pieces handed to a mover end at multiples of this.</summary>
    internal int PieceBoundary { get; set; } = 1 << 30;

    internal bool Recording { get; set; } = true;

    internal int LivingDevices => _ports.Count(port => port.Alive);

    internal IReadOnlyList<DmaAccess> Accesses
    {
        get
        {
            lock (_lock)
                return [.. _accesses];
        }
    }

    public (DmaAddressSpace Space, DmaPort Port) AddDevice(string deviceName)
    {
        var port = new Port(this, deviceName);
        _ports.Add(port);
        return (port.Space, port);
    }

    public void RemoveDevice(DmaAddressSpace space) => _ports.Single(port => port.Space == space).Alive = false;

    public void Dispose() => _arena.Dispose();

    internal ulong Allocate(long bytes, int alignment = 4096)
    {
        long at = (_used + alignment - 1) / alignment * alignment;
        _used = at + bytes;
        Assert.True(_used <= _arena.Length, "the test's arena is too small");
        return Base + (ulong)at;
    }

    internal Span<byte> Memory(ulong address, int length) => _arena.Span((long)(address - Base), length);

    internal void ForgetAccesses()
    {
        lock (_lock)
            _accesses.Clear();
    }

    private Errno Check(DmaAccess access)
    {
        OnAccess?.Invoke(access);
        if (Recording)
        {
            lock (_lock)
                _accesses.Add(access);
        }

        ulong end = access.Address + (ulong)access.Length;
        bool faults = access.Address < Faulting.End && end > Faulting.Start;
        bool inside = access.Address >= Base && end >= access.Address && end <= Base + (ulong)_arena.Length;
        return inside && !faults ? Errno.Ok : Errno.EFAULT;
    }

    private sealed class Port(TestFabric fabric, string name) : DmaPort
    {
        public override string DeviceName => name;

        internal DmaAddressSpace Space { get; } = new IdentitySpace(name);

        internal bool Alive { get; set; } = true;

        public override Errno Read(ulong address, Span<byte> destination)
        {
            Errno errno = Translate(new DmaAccess(DmaDirection.ToDevice, address, destination.Length));
            if (errno == Errno.Ok)
                fabric.Memory(address, destination.Length).CopyTo(destination);
            return errno;
        }

        public override Errno Write(ulong address, ReadOnlySpan<byte> source)
        {
            Errno errno = Translate(new DmaAccess(DmaDirection.FromDevice, address, source.Length));
            if (errno == Errno.Ok)
                source.CopyTo(fabric.Memory(address, source.Length));
            return errno;
        }

        public override Errno Transfer(ulong address, long length, DmaDirection direction, IDmaMover mover)
        {
            Errno errno = Translate(new DmaAccess(direction, address, length));
            for (long position = 0; errno == Errno.Ok && position < length;)
            {
                ulong at = address + (ulong)position;
                int part = (int)Math.Min(length - position, fabric.PieceBoundary - (long)(at % (ulong)fabric.PieceBoundary));
                errno = mover.Move(fabric.Memory(at, part), position);
                position += part;
            }

            return errno;
        }

        private Errno Translate(DmaAccess access) => Alive ? fabric.Check(access) : Errno.EFAULT;
    }

    private sealed class IdentitySpace(string name) : DmaAddressSpace
    {
        public override string Name => name;

        public override int Granularity => 4096;

        public override DeviceRange Map(in MemoryRange memory, DmaDirection direction, string purpose, long generation = 0) =>
            throw new NotSupportedException("The arena is mapped as a whole.");

        public override void Unmap(DeviceRange range) => throw new NotSupportedException("The arena is mapped as a whole.");
    }
}

/// <summary>One DMA as the fabric saw it.</summary>
internal readonly record struct DmaAccess(DmaDirection Direction, ulong Address, long Length);
