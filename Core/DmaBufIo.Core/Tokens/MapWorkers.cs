using DmaBufIo.Sync;

namespace DmaBufIo.Tokens;

/// <summary>
/// The process's workers that make maps on request. Not those that unmap: these wait for exporters' fences with a reservation lock held, and unmapping must not wait behind
/// them (F3).
/// </summary>
internal static class MapWorkers
{
    // As many as there can reasonably be buffers whose lock or fences are waited for at the same time; the next request waits until one of them is through.
    private const int MaxThreads = 32;

    internal static WorkQueue Queue { get; } = new("dmabufio-map", MaxThreads);
}
