using System.Collections.Concurrent;
using System.Globalization;

namespace DmaBufIo.Importers.StackedRaid;

/// <summary>Names for sets: the word and a number.</summary>
internal static class SetNames
{
    private static readonly ConcurrentDictionary<string, int> s_last = new();

    internal static string Next(string word) => string.Create(CultureInfo.InvariantCulture, $"{word}-{s_last.AddOrUpdate(word, 0, static (_, n) => n + 1)}");
}
