using System.Reflection;
using DmaBufIo.Hosting;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Docs.Tests;

/// <summary>docs/logging.md lists what the host logs, and nothing else.</summary>
public sealed class LogTableTests
{
    [Fact]
    public void The_table_of_messages_is_what_the_host_logs()
    {
        string[] logged = [.. typeof(DmaBufIoHost).Assembly.GetTypes()
            .SelectMany(static t => t.GetMethods(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
            .Select(static m => m.GetCustomAttribute<LoggerMessageAttribute>() is { } message ? $"{message.EventId} {message.Level} {m.Name} {message.Message}" : null)
            .OfType<string>()
            .Order(StringComparer.Ordinal)];
        string[] listed = [.. Repository.Table(Repository.Page("logging.md"), "## The messages").Select(static r => $"{r[0]} {r[1]} {r[2]} {r[3].Trim('`')}")];
        Assert.NotEmpty(logged);
        Assert.Equal(logged, listed);
    }

    [Fact]
    public void An_event_id_means_one_thing() =>
        Assert.All(
            Repository.Table(Repository.Page("logging.md"), "## The messages").GroupBy(static r => r[0]),
            static g => Assert.Single(g));
}
