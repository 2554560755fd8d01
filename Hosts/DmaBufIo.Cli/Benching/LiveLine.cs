using System.Diagnostics;
using DmaBufIo.Cli.Output;

namespace DmaBufIo.Cli.Benching;

/// <summary>
/// One line that is written over once a second while a benchmark runs. Only on a terminal: elsewhere it would be many lines.
/// </summary>
/// <param name="isShown">False: nothing is written.</param>
internal sealed class LiveLine(bool isShown)
{
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);
    private string _what = "";
    private TimeSpan _time;
    private long _begun;
    private long _at;
    private long _completed;
    private int _width;

    internal bool IsShown => isShown;

    internal static LiveLine For(bool quiet) => new(!quiet && !Console.IsErrorRedirected);

    /// <summary>A stretch begins.</summary>
    internal void Begin(string what, TimeSpan time, long completed)
    {
        _what = what;
        _time = time;
        _completed = completed;
        _begun = _at = Stopwatch.GetTimestamp();
    }

    /// <summary>Shows how far it is.</summary>
    /// <param name="completed">Requests ended so far.</param>
    /// <param name="block">Bytes of each.</param>
    internal void Show(long completed, long block)
    {
        if (!isShown)
            return;
        long now = Stopwatch.GetTimestamp();
        double rate = (completed - _completed) / Stopwatch.GetElapsedTime(_at, now).TotalSeconds;
        string elapsed = $"{Stopwatch.GetElapsedTime(_begun, now).TotalSeconds:0} of {_time.TotalSeconds:0.#} s";
        Write($"{_what} {elapsed}: {BenchText.Count(rate)} IOPS, {CommandOutput.Size(rate * block)}/s");
        _completed = completed;
        _at = now;
    }

    /// <summary>Wipes the line.</summary>
    internal void End()
    {
        if (!isShown || _width == 0)
            return;
        Write("");
        _width = 0;
        Write("");
    }

    private void Write(string text)
    {
        try
        {
            Console.Error.Write($"\r{text.PadRight(_width)}");
            _width = text.Length;
        }
        catch (IOException)
        {
            // Standard error is closed: there is nobody to show it to.
            _width = 0;
        }
    }
}
