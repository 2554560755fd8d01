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

    /// <inheritdoc/>
    public string? Failure { get; private set; }

    internal void Fail(Exception exception) => Failure = exception.Message;

    internal void Finish(byte[] result) => _result = result;
}
