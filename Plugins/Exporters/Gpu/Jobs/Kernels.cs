using System.Security.Cryptography;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Memory;

namespace DmaBufIo.Exporters.Gpu.Jobs;

/// <summary>What the compute stand-in can do.</summary>
internal static class Kernels
{
    internal static GpuJob Fill(GpuBuffer buffer, long offset, long length, byte value)
    {
        Check(buffer, offset, length);
        return buffer.Gpu.Jobs.Submit("fill", [new JobBuffer(buffer, Writes: true)], (cache, views) =>
        {
            cache.Write(views[0], offset, length, (piece, _) => piece.Fill(value));
            return [];
        });
    }

    internal static GpuJob Hash(GpuBuffer buffer, long offset, long length)
    {
        Check(buffer, offset, length);
        return buffer.Gpu.Jobs.Submit("hash", [new JobBuffer(buffer, Writes: false)], (cache, views) =>
        {
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            cache.Read(views[0], offset, length, hash.AppendData);
            return hash.GetHashAndReset();
        });
    }

    internal static GpuJob Copy(GpuBuffer source, long sourceOffset, GpuBuffer destination, long destinationOffset, long length)
    {
        Check(source, sourceOffset, length);
        Check(destination, destinationOffset, length);
        if (!ReferenceEquals(source.Gpu, destination.Gpu))
            throw Refused(Errno.EINVAL, destination, $"it lies on {destination.Gpu.Name}, the source on {source.Gpu.Name}", "Copy between buffers of one GPU");
        bool isOne = ReferenceEquals(source, destination);
        if (isOne && Math.Abs(sourceOffset - destinationOffset) < length)
            throw Refused(Errno.EINVAL, destination, "the ranges overlap", "Copy to a range apart from the source");
        JobBuffer[] buffers = isOne ? [new JobBuffer(source, Writes: true)] : [new JobBuffer(source, Writes: false), new JobBuffer(destination, Writes: true)];
        return source.Gpu.Jobs.Submit("copy", buffers, (cache, views) =>
        {
            JobView from = views[0];
            cache.Write(views[^1], destinationOffset, length, (piece, position) => Copy(cache, from, sourceOffset + position, piece));
            return [];
        });
    }

    private static void Copy(ReadCache cache, in JobView from, long offset, Span<byte> to)
    {
        byte[] buffer = new byte[to.Length];
        int filled = 0;
        cache.Read(from, offset, to.Length, piece =>
        {
            piece.CopyTo(buffer.AsSpan(filled));
            filled += piece.Length;
        });
        buffer.CopyTo(to);
    }

    private static void Check(GpuBuffer buffer, long offset, long length)
    {
        if (offset < 0 || length < 0 || offset > buffer.Buffer.Size - length)
        {
            throw new DmaBufIoException(
                Errno.EFAULT, GpuPlugin.PluginName, buffer.Buffer.Name, $"the range leaves the buffer of {buffer.Buffer.Size} bytes", "Name a range inside the buffer", range: $"{offset}+{length}", rule: "R2");
        }
    }

    private static DmaBufIoException Refused(Errno errno, GpuBuffer buffer, string problem, string remedy) => new(errno, GpuPlugin.PluginName, buffer.Buffer.Name, problem, remedy);
}
