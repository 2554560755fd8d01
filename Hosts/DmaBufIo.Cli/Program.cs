using System.CommandLine;
using DmaBufIo.Cli.Commands;
using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;

var root = new RootCommand("DmaBufIo: device I/O into shared buffers, with drivers as plugins")
{
    CopyCommand.Create(),
    PluginsCommand.Create(),
    DevicesCommand.Create(),
    BenchCommand.Create(),
};
ParseResult parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    foreach (System.CommandLine.Parsing.ParseError error in parsed.Errors)
        CommandOutput.Message($"error: {error.Message}");
    CommandOutput.Message($"Try 'dmabufio {(args.Length > 0 && !args[0].StartsWith('-') ? args[0] + " " : "")}--help'.");
    if (args.Contains("--json"))
        CommandGuard.Print(new DmaBufIoException(Errno.EINVAL, "command", "arguments", string.Join("; ", parsed.Errors.Select(static e => e.Message.TrimEnd('.'))), "See --help"));
    return CommandOutput.Failure;
}

// The host handles Ctrl-C and SIGTERM itself: it drains before it ends.
return await parsed.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
