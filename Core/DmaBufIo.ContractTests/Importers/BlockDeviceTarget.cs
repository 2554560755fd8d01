using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A block device or a file on devices, opened by the host from an expression. The truth is read and written through a file of the operating system where the device keeps its data in one
/// as it is, and else through requests on unregistered memory: other code of the driver than that of registered buffers.
/// </summary>
public class BlockDeviceTarget : ImporterTarget
{
    private readonly ContractWorld _world;
    private readonly string? _backingFile;
    private IoFile? _truth;
    private bool _disposed;

    /// <summary>Opens the device.</summary>
    /// <param name="world">The host.</param>
    /// <param name="expression">The device, as people write it.</param>
    /// <param name="backingFile">A file that holds the device's data at the same offsets; null when there is none.</param>
    public BlockDeviceTarget(ContractWorld world, string expression, string? backingFile = null)
    {
        _world = world;
        Device = world.Host.Open(expression);
        _backingFile = backingFile;
        File = Device.OpenFile();
    }

    /// <inheritdoc/>
    public override IoFile File { get; }

    /// <summary>The device with what it stands on: where a fixture finds its disks. Closed by <see cref="Remove"/> and <see cref="Dispose"/>.</summary>
    protected OpenedDevice Device { get; }

    /// <inheritdoc/>
    public override void Give(long offset, ReadOnlySpan<byte> data)
    {
        if (_backingFile is null)
        {
            byte[] bytes = data.ToArray();
            Transfer(offset, bytes.Length, memory => bytes.CopyTo(memory.Span(0, bytes.Length)), isWrite: true);
            return;
        }

        using FileStream file = Open(FileAccess.Write);
        file.Seek(offset, SeekOrigin.Begin);
        file.Write(data);
    }

    /// <inheritdoc/>
    public override byte[] Take(long offset, int length)
    {
        byte[] found = new byte[length];
        if (_backingFile is null)
        {
            Transfer(offset, length, static _ => { }, isWrite: false, memory => memory.Span(0, length).CopyTo(found));
            return found;
        }

        using FileStream file = Open(FileAccess.Read);
        file.Seek(offset, SeekOrigin.Begin);
        file.ReadExactly(found);
        return found;
    }

    /// <inheritdoc/>
    public override void Reset() => Device.Root.ResetAll();

    /// <inheritdoc/>
    public override void Remove() => Device.Dispose();

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _truth?.Put();
        File.Put();
        Device.Dispose();
        GC.SuppressFinalize(this);
    }

    private FileStream Open(FileAccess access) => new(_backingFile!, FileMode.Open, access, FileShare.ReadWrite);

    private void Transfer(long offset, int length, Action<MemoryRegion> before, bool isWrite, Action<MemoryRegion>? after = null)
    {
        _truth ??= Device.OpenFile();

        // Ring and memory are left as they are when the request does not end: closing would wait for it, and the device may still come to the memory.
        var memory = MemoryRegion.Allocate("truth", length);
        var ring = new Ring(new RingOptions { Name = "truth", Entries = 2, BufferSlots = 1 });
        before(memory);
        ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = _truth, Mapping = BufferMapping.PerRequest });
        _ = isWrite ? ring.TryWriteFixed(_truth, 0, 0, length, offset, 0) : ring.TryReadFixed(_truth, 0, 0, length, offset, 0);
        ring.Submit();
        var completions = new RingCompletion[1];
        string request = $"a {(isWrite ? "write" : "read")} of {length} bytes at {offset} on unregistered memory";
        _world.Eventually(() => ring.Reap(completions) == 1, "N8", $"{request} has not ended.");
        RingCompletion ended = completions[0];
        _world.Check(ended.Status == Errno.Ok && ended.Bytes == length, "B1", $"{request} ended with {ended.Status} and {ended.Bytes} bytes.");
        ring.RemoveBuffer(0).WaitReleased();
        ring.Dispose();
        after?.Invoke(memory);
        memory.Dispose();
    }
}
