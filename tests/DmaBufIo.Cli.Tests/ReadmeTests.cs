using System.Text.RegularExpressions;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Rdma;
using DmaBufIo.Rings;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace DmaBufIo.Cli.Tests;

/// <summary>What the README shows is what runs here.</summary>
public sealed partial class ReadmeTests
{
    private static readonly string s_readme = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "README.md"));

    [Fact]
    public async Task The_hosts_example_runs_as_printed()
    {
        using var folder = new WorkFolder();
        string path = folder.Random("a", 4096);
        string plugins = Path.Combine(CommandProcess.Folder, "plugins");
        var output = new StringWriter();
        Console.SetOut(output);
        await HostExampleAsync(path, plugins);
        Assert.Contains("RingCompletion { UserData = 1, Status = Ok, Bytes = 4096 }", output.ToString(), StringComparison.Ordinal);
        Assert.Contains($"\n{(await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken))[0]}\n", output.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_example_of_a_bounced_read_runs_as_printed()
    {
        using var folder = new WorkFolder();
        string path = folder.Random("a", 4096);
        var options = new DmaBufIoOptions { PluginFolder = Path.Combine(CommandProcess.Folder, "plugins") };
        using DmaBufIoHost host = DmaBufIoHost.Create(options.UseFabric(static _ => new ModelIommu(new ModelIommuOptions { Mode = IommuMode.Strict })));
        using OpenedDevice device = host.Open(path, readOnly: true);
        using ExportedBuffer exported = host.CreateBuffer("udmabuf", "b0", 1 << 20);
        var file = new BlockDeviceFile(device.BlockDevice, OpenFlags.Direct | OpenFlags.ReadOnly);
        var output = new StringWriter();
        Console.SetOut(output);
        BounceExample(host, file, exported.Buffer);
        file.Put();
        Assert.Contains("RingCompletion { UserData = 1, Status = Ok, Bytes = 4096, Bounce = Unaligned }", output.ToString(), StringComparison.Ordinal);
        byte[] bytes = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        Assert.True(exported.Buffer.Describe().Ranges[0].Region.Span(1, 4096).SequenceEqual(bytes));
    }

    [Fact]
    public void The_hosts_examples_are_the_code_of_this_test()
    {
        string source = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "ReadmeTests.cs"));
        MatchCollection bodies = Bodies().Matches(source);
        Assert.Equal(3, bodies.Count);
        foreach (Match body in bodies)
        {
            string code = string.Join('\n', body.Groups[1].Value.Split('\n').Select(static l => l.StartsWith("        ", StringComparison.Ordinal) ? l[8..] : l)).Trim('\n');
            Assert.Contains($"```csharp\n{code}\n```", s_readme, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_network_example_runs_as_printed()
    {
        var options = new DmaBufIoOptions { PluginFolder = Path.Combine(CommandProcess.Folder, "plugins") };
        using var iommu = new ModelIommu();
        options.UseFabric(iommu);
        options.AddBuiltIn<ModelsPlugin>();
        var output = new StringWriter();
        Console.SetOut(output);
        using (DmaBufIoHost host = DmaBufIoHost.Create(options))
            NetworkExample(host);
        Assert.Contains("RdmaCompletion { Id = 1, Opcode = Receive, Status = Success, Length = 1000, QueuePair = 1 }", output.ToString(), StringComparison.Ordinal);
        Assert.Equal((0, 0, 0), (iommu.Faults, iommu.StaleAccesses, iommu.LeakedMappings));
    }

    [Fact]
    public async Task The_printed_copy_commands_run()
    {
        using var folder = new WorkFolder();
        folder.Random("a.bin", 3 << 20);
        MatchCollection commands = Copies().Matches(s_readme);
        Assert.Equal(7, commands.Count);
        foreach (Match command in commands)
        {
            string[] arguments = [.. command.Groups[1].Value.Split(' ').Select(a => a.Trim('"').Replace("/tmp/", folder["."] + "/", StringComparison.Ordinal))];
            CommandProcess.Result result = await CommandProcess.RunAsync(arguments);
            Assert.True(result.ExitCode == 0, result.ToString());
        }

        Assert.Equal(WorkFolder.Hash(folder["a.bin"]), WorkFolder.Hash(folder["c.bin"])); // through a file in extents on a mirror, and out again
    }

    [Fact]
    public async Task The_printed_benchmarks_run()
    {
        using var folder = new WorkFolder();
        folder.Random("a.bin", 1 << 20);
        MatchCollection commands = Benchmarks().Matches(s_readme);
        Assert.Equal(3, commands.Count);
        foreach (Match command in commands)
        {
            string[] arguments = [.. command.Groups[1].Value.Split(' ').Select(a => a.Trim('"').Replace("/tmp/", folder["."] + "/", StringComparison.Ordinal))];
            CommandProcess.Result result = await CommandProcess.RunAsync([.. arguments, "--warmup", "0", "--requests", "1000"]);
            Assert.True(result.ExitCode == 0, result.ToString());
        }
    }

    // <example>
    private static async Task HostExampleAsync(string path, string plugins)
    {
        HostApplicationBuilder builder = Host.CreateApplicationBuilder();
        builder.Services.AddDmaBufIo(options =>
        {
            options.PluginFolder = plugins; // when not set: the folder "plugins" beside the application
            options.UseFabric(_ => new ModelIommu(new ModelIommuOptions { Mode = IommuMode.Strict }));
            options.AddBuiltIn<ModelsPlugin>(); // the exporter "moving"
        });
        using IHost app = builder.Build();
        await app.StartAsync();
        var host = app.Services.GetRequiredService<DmaBufIoHost>();

        using (OpenedDevice device = host.Open(path, readOnly: true))
        using (ExportedBuffer exported = host.CreateBuffer("udmabuf", "b0", 1 << 20))
        {
            var file = new BlockDeviceFile(device.BlockDevice, OpenFlags.Direct | OpenFlags.ReadOnly);
            using (var ring = new Ring(new RingOptions { Entries = 8 }))
            {
                ring.RegisterBuffer(0, new BufferRegistration { Buffer = exported.Buffer, File = file, Direction = DmaDirection.FromDevice });
                ring.TryReadFixed(file, slot: 0, bufferOffset: 0, length: 4096, fileOffset: 0, userData: 1);
                ring.Submit();
                var completions = new RingCompletion[1];
                ring.Reap(completions, minimum: 1);
                Console.WriteLine(completions[0]); // RingCompletion { UserData = 1, Status = Ok, Bytes = 4096 }
            }

            file.Put();
            var first = new byte[1];
            exported.Buffer.Read(0, first); // wherever the buffer lies now
            Console.WriteLine(first[0]); // the first byte that was read
        }

        await app.StopAsync();
    }

    // </example>

    // <example>
    private static void BounceExample(DmaBufIoHost host, BlockDeviceFile file, DmaBuf buffer)
    {
        using var ring = new Ring(host.RingOptions with { Entries = 8, TransferPolicy = TransferPolicy.AllowBounce });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer, File = file, Direction = DmaDirection.FromDevice });
        ring.TryReadFixed(file, slot: 0, bufferOffset: 1, length: 4096, fileOffset: 0, userData: 1); // NVMe wants a multiple of 4
        ring.Submit();
        var completions = new RingCompletion[1];
        ring.Reap(completions, minimum: 1);
        Console.WriteLine(completions[0]); // RingCompletion { UserData = 1, Status = Ok, Bytes = 4096, Bounce = Unaligned }
    }

    // </example>

    // <example>
    private static void NetworkExample(DmaBufIoHost host)
    {
        using (OpenedDevice left = host.Open("rnic:left"))
        using (OpenedDevice right = host.Open("rnic:right"))
        using (ExportedBuffer near = host.CreateBuffer("moving", "near", 1 << 20))
        using (ExportedBuffer far = host.CreateBuffer("moving", "far", 1 << 20))
        using (RdmaQueuePair sender = left.RdmaDevice.CreateQueuePair())
        using (RdmaQueuePair receiver = right.RdmaDevice.CreateQueuePair())
        {
            sender.Connect(receiver.Address);
            receiver.Connect(sender.Address); // both ends name the other
            RdmaMemoryRegion source = left.RdmaDevice.RegisterMemory(near.Buffer, RdmaAccess.None);
            RdmaMemoryRegion target = right.RdmaDevice.RegisterMemory(far.Buffer, RdmaAccess.LocalWrite);
            receiver.PostReceive(RdmaWorkRequest.Receive(id: 1, target, offset: 0, length: 4096));
            near.Move(); // with requests posted or under way, at either end
            sender.PostSend(RdmaWorkRequest.Send(id: 2, source, offset: 0, length: 1000));
            var completions = new RdmaCompletion[1];
            while (receiver.ReceiveCompletions.Poll(completions) == 0)
                Thread.Yield();
            Console.WriteLine(completions[0]); // RdmaCompletion { Id = 1, Opcode = Receive, Status = Success, Length = 1000, QueuePair = 1 }
            source.Deregister();
            target.Deregister();
        }
    }

    // </example>

    [GeneratedRegex(@"// <example>\n[^\n]*\n    {\n(.*?)\n    }\n\n    // </example>", RegexOptions.Singleline)]
    private static partial Regex Bodies();

    [GeneratedRegex("^dotnet run -c Release --project Hosts/DmaBufIo.Cli -- (copy .*)$", RegexOptions.Multiline)]
    private static partial Regex Copies();

    [GeneratedRegex("^dotnet run -c Release --project Hosts/DmaBufIo.Cli -- (bench .*)$", RegexOptions.Multiline)]
    private static partial Regex Benchmarks();
}
