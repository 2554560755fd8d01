using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Memory;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <summary>Another way to the bytes of a file: one request on memory that is not registered, on a ring of its own. Other code of the driver than that of registered buffers.</summary>
internal static class Truth
{
    /// <summary>Writes bytes to the file.</summary>
    internal static void Write(ContractWorld world, IoFile file, long offset, byte[] bytes) => world.Beside(() => Transfer(world, file, offset, bytes, isWrite: true));

    /// <summary>Reads bytes of the file.</summary>
    internal static byte[] Read(ContractWorld world, IoFile file, long offset, int length)
    {
        byte[] bytes = new byte[length];
        world.Beside(() => Transfer(world, file, offset, bytes, isWrite: false));
        return bytes;
    }

    private static void Transfer(ContractWorld world, IoFile file, long offset, byte[] bytes, bool isWrite)
    {
        // Ring and memory are left as they are when the request does not end: closing would wait for it, and the device may still come to the memory.
        int length = bytes.Length;
        var memory = MemoryRegion.Allocate("truth", length);
        var ring = new Ring(new RingOptions { Name = "truth", Entries = 2, BufferSlots = 1 });
        if (isWrite)
            bytes.CopyTo(memory.Span(0, length));
        ring.RegisterBuffer(0, new BufferRegistration { Memory = memory, File = file, Mapping = BufferMapping.PerRequest });
        _ = isWrite ? ring.TryWriteFixed(file, 0, 0, length, offset, 0) : ring.TryReadFixed(file, 0, 0, length, offset, 0);
        ring.Submit();
        var completions = new RingCompletion[1];
        string request = $"a {(isWrite ? "write" : "read")} of {length} bytes at {offset} on memory that is not registered";
        world.Eventually(() => ring.Reap(completions) == 1, "N8", $"{request} has not ended.");
        RingCompletion ended = completions[0];
        world.Check(ended.Status == Errno.Ok && ended.Bytes == length, "B1", $"{request} ended with {ended.Status} and {ended.Bytes} bytes.");
        ring.RemoveBuffer(0).WaitReleased();
        ring.Dispose();
        if (!isWrite)
            memory.Span(0, length).CopyTo(bytes);
        memory.Dispose();
    }
}
