using System.Runtime.ExceptionServices;
using DmaBufIo.DmaBufs;

namespace DmaBufIo.Fixtures.FaultyExporter;

/// <summary>Moves a buffer on a thread made for it; the caller waits for that thread, in nothing of Sync. Nothing is wrong with it.</summary>
internal static class Mover
{
    internal static InvalidationReport Move(OwnedBuffer buffer, CancellationToken cancellationToken)
    {
        InvalidationReport report = default;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                report = buffer.Move(cancellationToken);
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
        })
        {
            Name = $"mover of {buffer.Buffer.Name}",
            IsBackground = true,
        };
        thread.Start();
        thread.Join();
        failure?.Throw();
        return report;
    }
}
