using System.Collections.Concurrent;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Puppets;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Logging;
using Mono.Cecil;

namespace DmaBufIo.Tests;

/// <summary>A plugin folder of a test's own, filled with copies of the fixtures, whole or rewritten.</summary>
internal sealed class PluginYard : IDisposable
{
    internal const string Good = "DmaBufIo.Fixtures.Good";
    internal const string Faulty = "DmaBufIo.Fixtures.Faulty";
    internal const string Library = "DmaBufIo.Fixtures.Library";
    internal const string Held = "DmaBufIo.Fixtures.Held";
    internal const string TwoEntries = "DmaBufIo.Fixtures.TwoEntries";

    private readonly string _journalName = $"journal {Guid.NewGuid()}";
    private readonly string _stringsName = $"strings {Guid.NewGuid()}";

    internal PluginYard()
    {
        Folder = Directory.CreateTempSubdirectory("dmabufio-plugins-").FullName;
        AppContext.SetData(_journalName, Journal);
        AppContext.SetData(_stringsName, (Puppets, Close));
    }

    internal string Folder { get; }

    /// <summary>What the good plugin wrote down.</summary>
    internal ConcurrentQueue<string> Journal { get; } = new();

    /// <summary>The devices of the plugin that holds requests, by name.</summary>
    internal ConcurrentDictionary<string, PuppetBlockDevice> Puppets { get; } = new();

    /// <summary>Lets devices that are stuck close.</summary>
    internal ManualResetEventSlim Close { get; } = new();

    internal RecordingLoggerFactory Logs { get; } = new();

    internal IConfiguration Configuration =>
        new ConfigurationBuilder().AddInMemoryCollection([
            new("DmaBufIo:Plugins:good:journal", _journalName),
            new("DmaBufIo:Plugins:held:strings", _stringsName),
        ]).Build();

    internal static string FixtureFolder(string fixture) => Path.Combine(AppContext.BaseDirectory, "fixtures", fixture);

    /// <summary>Copies a fixture's folder as it is.</summary>
    internal string Add(string fixture, string? folderName = null)
    {
        string folder = Directory.CreateDirectory(Path.Combine(Folder, folderName ?? fixture)).FullName;
        foreach (string file in Directory.GetFiles(FixtureFolder(fixture), "*", SearchOption.AllDirectories))
        {
            string copy = Path.Combine(folder, Path.GetRelativePath(FixtureFolder(fixture), file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }

        return folder;
    }

    /// <summary>Copies a fixture's assembly under another name; the assembly's own name changes too.</summary>
    internal string AddRenamed(string fixture, string name)
    {
        string folder = Directory.CreateDirectory(Path.Combine(Folder, name)).FullName;
        Rewrite(Path.Combine(FixtureFolder(fixture), fixture + ".dll"), Path.Combine(folder, name + ".dll"), a => a.Name.Name = name);
        return folder;
    }

    /// <summary>Replaces an assembly the way an installer should: a new file, renamed into place.</summary>
    internal static void Rewrite(string source, string target, Action<AssemblyDefinition> change)
    {
        string aside = target + ".new";
        using (AssemblyDefinition assembly = AssemblyDefinition.ReadAssembly(source, new ReaderParameters { InMemory = true }))
        {
            change(assembly);
            assembly.Write(aside);
        }

        File.Move(aside, target, overwrite: true);
    }

    internal string GoodAssembly => Path.Combine(Folder, Good, Good + ".dll");

    internal DmaBufIoHost Start(Action<DmaBufIoOptions>? configure = null)
    {
        var options = new DmaBufIoOptions { PluginFolder = Folder };
        configure?.Invoke(options);
        return DmaBufIoHost.Create(options, Logs, Configuration);
    }

    public void Dispose()
    {
        AppContext.SetData(_journalName, null);
        AppContext.SetData(_stringsName, null);
        Close.Set();
        Directory.Delete(Folder, recursive: true);
    }
}

/// <summary>Keeps what is logged, as text: an exception kept as an object would keep a plugin.</summary>
internal sealed class RecordingLoggerFactory : ILoggerFactory
{
    private readonly ConcurrentQueue<(string Category, EventId Event, string Text)> _lines = new();

    internal IReadOnlyList<(string Category, EventId Event, string Text)> Lines => [.. _lines];

    public ILogger CreateLogger(string categoryName) => new Recorder(this, categoryName);

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException("It keeps everything itself.");

    public void Dispose()
    {
    }

    private sealed class Recorder(RecordingLoggerFactory factory, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState,
            Exception?,
            string> formatter)
        {
            factory._lines.Enqueue((
                category,
                eventId,
                $"{formatter(state, exception)}{(exception is null ? "" : $" [{exception.Message}]")}"));
        }
    }
}
