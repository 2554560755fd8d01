using System.CommandLine;
using DmaBufIo.Block;
using DmaBufIo.Cli.Output;
using DmaBufIo.Hosting;

namespace DmaBufIo.Cli.Commands;

/// <summary><c>devices [EXPR…]</c>: opens devices for reading and shows what they are; without any, the words that expressions may use.</summary>
internal static class DevicesCommand
{
    internal static Command Create()
    {
        var expressions = new Argument<string[]>("EXPR") { Description = "Device expressions; a plain path means nvme:PATH", Arity = ArgumentArity.ZeroOrMore };
        var command = new Command("devices", "Opens devices and shows what they are; without any, the words that expressions may use") { expressions };
        CommonOptions common = CommonOptions.AddTo(command);
        command.SetAction((parsed, _) => CommandGuard.RunAsync(common.Read(parsed).Json, () =>
        {
            CommonSettings settings = common.Read(parsed);
            return CommandHost.RunAsync(settings, (host, _, _) => Run(settings, parsed.GetValue(expressions) ?? [], host));
        }));
        return command;
    }

    private static int Run(CommonSettings settings, string[] expressions, DmaBufIoHost host)
    {
        var opened = new List<OpenedDevice>();
        try
        {
            foreach (string expression in expressions)
                opened.Add(host.Open(Expressions.Parse(host, expression), readOnly: true));
            var listing = new DeviceListing(host.Plugins.DeviceWords, host.Plugins.ExporterWords, [.. opened.SelectMany(static d => d.BlockDevices.Select(b => DeviceLine.From(d, b)))], [.. opened.Where(static d => d.Root.RdmaDevice is not null).Select(RdmaLine.From)]);
            if (settings.Json)
                CommandOutput.Json(listing);
            else
                Print(listing);
            return CommandOutput.Success;
        }
        finally
        {
            for (int i = opened.Count - 1; i >= 0; i--)
                opened[i].Dispose();
        }
    }

    private static void Print(DeviceListing listing)
    {
        foreach (DeviceLine device in listing.Devices)
        {
            CommandOutput.Data($"{device.Name}: {device.Expression}");
            CommandOutput.Data($"  {device.Description}; {CommandOutput.Size(device.Capacity)} in blocks of {device.LogicalBlockSize}{(device.IsReadOnly ? ", read-only" : "")}");
            CommandOutput.Data($"  driver {device.Driver}; largest request {CommandOutput.Size(device.MaxBytes)}, memory alignment {device.DmaAlignment}");
        }

        foreach (RdmaLine device in listing.RdmaDevices)
        {
            CommandOutput.Data($"{device.Name}: {device.Expression}");
            CommandOutput.Data($"  {device.Description}");
        }

        if (listing.Devices.Count + listing.RdmaDevices.Count == 0)
        {
            CommandOutput.Data($"device words: {string.Join(", ", listing.DeviceWords)}");
            CommandOutput.Data($"exporters:    {string.Join(", ", listing.ExporterWords)}");
        }
    }
}

/// <summary>What <c>devices --json</c> prints.</summary>
internal sealed record DeviceListing(IReadOnlyList<string> DeviceWords, IReadOnlyList<string> ExporterWords, IReadOnlyList<DeviceLine> Devices, IReadOnlyList<RdmaLine> RdmaDevices);

/// <summary>One block device.</summary>
internal sealed record DeviceLine(
    string Name,
    string Expression,
    string Driver,
    string Description,
    long Capacity,
    int LogicalBlockSize,
    int MaxBytes,
    int DmaAlignment,
    bool IsReadOnly)
{
    internal static DeviceLine From(OpenedDevice opened, BlockDevice device) => new(
        device.Name,
        opened.Expression.Source,
        opened.Root.DriverName,
        device.Description,
        device.Capacity,
        device.Limits.LogicalBlockSize,
        device.Limits.MaxBytes,
        device.Limits.DmaAlignment,
        device.IsReadOnly);
}

/// <summary>One network card.</summary>
internal sealed record RdmaLine(string Name, string Expression, string Driver, string Description)
{
    internal static RdmaLine From(OpenedDevice opened) => new(opened.Name, opened.Expression.Source, opened.Root.DriverName, opened.RdmaDevice.Description);
}
