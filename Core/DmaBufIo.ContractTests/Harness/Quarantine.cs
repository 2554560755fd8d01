using DmaBufIo.Memory;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <summary>
/// Where memory of buffers stays for a while after they are gone. A driver whose thread still writes there breaks F7 in a later fact, with a message; without this it would end the process.
/// </summary>
internal static class Quarantine
{
    private const long Most = 64 << 20;
    private static readonly Lock s_lock = new();
    private static readonly Queue<(MemoryRegion Region, string Fact)> s_kept = [];
    private static long s_bytes;

    /// <summary>Keeps a region, filled with poison; lets go of the oldest. Large ones are not kept.</summary>
    /// <param name="region">Nobody needs it any more.</param>
    /// <param name="fact">Whose it was.</param>
    internal static void Add(MemoryRegion region, string fact)
    {
        if (region.Length > Most / 4)
        {
            region.Dispose();
            return;
        }

        region.Fill(PuppetExporter.Poison);
        lock (s_lock)
        {
            s_kept.Enqueue((region, fact));
            s_bytes += region.Length;
            while (s_bytes > Most)
                LetGo();
        }
    }

    /// <summary>The fact whose memory was written to after it was given back; told once. Null for none.</summary>
    internal static string? TakeStray()
    {
        lock (s_lock)
        {
            foreach ((MemoryRegion region, string fact) in s_kept)
            {
                if (IsClean(region))
                    continue;
                region.Fill(PuppetExporter.Poison);
                return fact;
            }
        }

        return null;
    }

    private static void LetGo()
    {
        (MemoryRegion region, _) = s_kept.Dequeue();
        s_bytes -= region.Length;
        region.Dispose();
    }

    private static bool IsClean(MemoryRegion region) => !region.Span(0, (int)region.Length).ContainsAnyExcept(PuppetExporter.Poison);
}
