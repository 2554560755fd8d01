using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Memory;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <summary>
/// A file that the host opens from an expression. The truth is read and written by requests of a second open file on memory that is not registered: other code of the driver. Where a fixture knows where the bytes
/// lie on the disks, it overrides <see cref="Give"/> and <see cref="Take"/>.
/// </summary>
public class FileTarget : ImporterTarget
{
    private readonly IoFile _truth;
    private bool _disposed;

    /// <summary>Opens the file, for reading and writing first, so that it is there.</summary>
    /// <param name="world">The host.</param>
    /// <param name="expression">The file, as people write it.</param>
    /// <param name="flags">How the file under test is opened.</param>
    public FileTarget(ContractWorld world, string expression, OpenFlags flags)
    {
        Device = world.Host.Open(expression);
        try
        {
            _truth = Device.OpenFile();
            File = Device.OpenFile(flags);
        }
        catch
        {
            _truth?.Put();
            Device.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override IoFile File { get; }

    /// <summary>The file with the devices under it: where a fixture finds its disks.</summary>
    protected OpenedDevice Device { get; }

    /// <inheritdoc/>
    public override void Give(long offset, ReadOnlySpan<byte> data)
    {
        byte[] bytes = data.ToArray();
        Transfer(offset, bytes, isWrite: true);
    }

    /// <inheritdoc/>
    public override byte[] Take(long offset, int length)
    {
        byte[] bytes = new byte[length];
        Transfer(offset, bytes, isWrite: false);
        return bytes;
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _truth.Put();
        if (!File.IsClosed)
            File.Put();
        Device.Dispose();
        GC.SuppressFinalize(this);
    }

    private void Transfer(long offset, byte[] bytes, bool isWrite)
    {
        using var memory = MemoryRegion.Allocate("truth", bytes.Length);
        if (isWrite)
            bytes.CopyTo(memory.Span(0, bytes.Length));
        using (var ring = new Ring(new RingOptions { Name = "truth", Entries = 2, BufferSlots = 1 }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = _truth, Mapping = BufferMapping.PerRequest });
            _ = isWrite ? ring.TryWriteFixed(_truth, 0, 0, bytes.Length, offset, 0) : ring.TryReadFixed(_truth, 0, 0, bytes.Length, offset, 0);
            ring.Submit();
            var completions = new RingCompletion[1];
            if (!Hang.Until(() => ring.Reap(completions) == 1))
                throw Hang.Of("a request on memory that is not registered");
            if (completions[0].Status != Errno.Ok || completions[0].Bytes != bytes.Length)
                throw new BrokenRuleException("B1", $"a {(isWrite ? "write" : "read")} of {bytes.Length} bytes at {offset} on memory that is not registered ended with {completions[0].Status} and {completions[0].Bytes} bytes.", "the same fact again");
            ring.RemoveBuffer(0).WaitReleased();
        }

        if (!isWrite)
            memory.Span(0, bytes.Length).CopyTo(bytes);
    }
}
