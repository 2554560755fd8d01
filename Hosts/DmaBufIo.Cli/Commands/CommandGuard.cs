using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;

namespace DmaBufIo.Cli.Commands;

/// <summary>Whatever goes wrong gives a message and an exit code, and with --json an object; never a stack trace.</summary>
internal static class CommandGuard
{
    internal static async Task<int> RunAsync(bool json, Func<Task<int>> command)
    {
        try
        {
            return await command();
        }
        catch (DmaBufIoException e)
        {
            CommandOutput.Error(e);
            return Fail(json, e, CommandOutput.Failure);
        }
        catch (OperationCanceledException)
        {
            CommandOutput.Message("interrupted");
            return Fail(json, new DmaBufIoException(Errno.EINTR, "command", "dmabufio", "it was interrupted", "Start it again"), CommandOutput.Interrupted);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            // Everything was looked at before it began: somebody has removed it since.
            string path = (e as FileNotFoundException)?.FileName ?? e.Message.TrimEnd('.');
            var gone = new DmaBufIoException(Errno.ENOENT, "command", path, "the file, or its folder, has gone while the command used it", "Leave source and destination in place until it has ended, and start it again");
            CommandOutput.Error(gone);
            return Fail(json, gone, CommandOutput.Failure);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // The last place: a file system that fails, a plugin that throws what it may not.
            var unexpected = new DmaBufIoException(Errno.EIO, "command", "dmabufio", $"{e.GetType().Name}: {e.Message.TrimEnd('.')}", "Check the files and the plugin that were used");
            CommandOutput.Error(unexpected);
            return Fail(json, unexpected, CommandOutput.Failure);
        }
    }

    private static int Fail(bool json, DmaBufIoException e, int code)
    {
        if (json && e.Subject != CommandOutput.StandardOutput)
            Print(e);
        return code;
    }

    /// <summary>Prints a failure as --json asks for it.</summary>
    internal static void Print(DmaBufIoException e)
    {
        try
        {
            CommandOutput.Json(new FailureReport(Ok: false, ErrorReport.From(e)));
        }
        catch (DmaBufIoException gone)
        {
            CommandOutput.Error(gone);
        }
    }
}

/// <summary>What --json prints when a command failed before it had anything else to say.</summary>
internal sealed record FailureReport(bool Ok, ErrorReport Error);
