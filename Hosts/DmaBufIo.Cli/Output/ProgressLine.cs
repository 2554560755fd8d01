using Spectre.Console;

namespace DmaBufIo.Cli.Output;

/// <summary>Shows how far a copy is, on standard error: a bar on a terminal, a plain line for every tenth otherwise.</summary>
internal static class ProgressLine
{
    /// <summary>Runs work that reports how many bytes are done.</summary>
    /// <param name="title">What is done.</param>
    /// <param name="total">Bytes in all.</param>
    /// <param name="quiet">Shows nothing.</param>
    /// <param name="work">Gets the reporting function, to be called from one thread as often as it likes.</param>
    internal static void Run(string title, long total, bool quiet, Action<Action<long>> work)
    {
        if (quiet)
        {
            work(static _ => { });
        }
        else if (Console.IsErrorRedirected)
        {
            Plain(title, total, work);
        }
        else
        {
            Bar(title, total, work);
        }
    }

    private static void Plain(string title, long total, Action<Action<long>> work)
    {
        int shown = 0;
        work(done =>
        {
            int tenth = total == 0 ? 10 : (int)(done * 10 / total);
            if (tenth > shown)
            {
                shown = tenth;
                CommandOutput.Message($"{title}: {tenth * 10} % ({done} of {total} bytes)");
            }
        });
    }

    private static void Bar(string title, long total, Action<Action<long>> work)
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });
        console.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new TransferSpeedColumn(), new RemainingTimeColumn())
            .Start(context =>
            {
                ProgressTask task = context.AddTask(Markup.Escape(title), maxValue: Math.Max(1, total));
                long last = 0;
                long step = Math.Max(1, total / 1000);
                work(done =>
                {
                    // The bar redraws by itself; telling it of every block would only take its lock more often.
                    if (done - last >= step || done == total)
                    {
                        last = done;
                        task.Value = done;
                    }
                });
            });
    }
}
