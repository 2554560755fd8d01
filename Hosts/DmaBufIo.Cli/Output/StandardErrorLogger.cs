using Microsoft.Extensions.Logging;

namespace DmaBufIo.Cli.Output;

/// <summary>Log lines on standard error, one line each, without a time: a command's log is read as it is written.</summary>
internal sealed class StandardErrorLoggerProvider : ILoggerProvider
{
    public ILogger CreateLogger(string categoryName) => new StandardErrorLogger(categoryName);

    public void Dispose()
    {
    }

    private sealed class StandardErrorLogger(string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            // The generic host's own messages say nothing about the work of a command; what it fails with is told by the command.
            if (category.StartsWith("Microsoft.", StringComparison.Ordinal))
                return;
            string text = exception is null ? formatter(state, exception) : $"{formatter(state, exception)}: {exception.Message}";
            CommandOutput.Message($"{logLevel.ToString().ToLowerInvariant()}: {text}");
        }
    }
}
