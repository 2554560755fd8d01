using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;

namespace DmaBufIo.Cli.Commands;

/// <summary>Wrong input gives a message and an exit code, never a stack trace.</summary>
internal static class CommandGuard
{
    internal static async Task<int> RunAsync(Func<Task<int>> command)
    {
        try
        {
            return await command();
        }
        catch (DmaBufIoException e)
        {
            CommandOutput.Error(e);
            return CommandOutput.Failure;
        }
    }
}
