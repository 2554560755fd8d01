using DmaBufIo.DmaBufs;
using DmaBufIo.Plugins;

namespace DmaBufIo.Exporters.Gpu.Jobs;

/// <summary>A job on the compute engine.</summary>
internal sealed class GpuJob : IComputeJob
{
    private byte[] _result = [];

    /// <inheritdoc/>
    public DmaFence Fence { get; internal set; } = null!;

    /// <inheritdoc/>
    public ReadOnlyMemory<byte> Result => Fence.IsSignaled ? _result : default;

    internal void Finish(byte[] result) => _result = result;
}
