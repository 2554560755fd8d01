using System.Runtime.CompilerServices;
using DmaBufIo.Block;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <summary>Opens, uses and closes what expressions name. In frames of its own: a local of a fact's frame would keep the plugin's objects.</summary>
internal static class PluginUseOf
{
    /// <summary>Opens and closes.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static void OpenAndClose(ContractWorld world, IExpressionFixture fixture, string expression)
    {
        if (IsExporter(world, expression))
        {
            world.Host.CreateBuffer(expression, "contract", fixture.BufferSize).Dispose();
            return;
        }

        using OpenedDevice device = world.Host.Open(expression);
        if (IsFile(world, device))
            device.OpenFile().Put();
    }

    /// <summary>Opens, moves data with registered buffers where there is a file, and closes.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal static void OpenUseAndClose(ContractWorld world, IExpressionFixture fixture, string expression)
    {
        if (IsExporter(world, expression))
        {
            UseBuffer(world, fixture, expression);
            return;
        }

        using OpenedDevice device = world.Host.Open(expression);
        if (IsFile(world, device))
        {
            PuppetExporter buffer = PuppetExporter.Create("contract", 256 << 10);
            IoFile file = device.OpenFile();
            try
            {
                DoIo(world, file, buffer.Buffer, device.BlockDevices.Any(static d => d.IsReadOnly));
            }
            finally
            {
                file.Put();
                buffer.Buffer.Put();
            }
        }

        fixture.Use(world, device);
    }

    private static bool IsFile(ContractWorld world, OpenedDevice device) =>
        device.BlockDevices.Count == 1 || world.Host.Plugins.FileWords.Contains(device.Expression.Word, StringComparer.Ordinal);

    private static bool IsExporter(ContractWorld world, string expression) =>
        world.Host.Plugins.ExporterWords.Contains(expression.Split(':', 2)[0], StringComparer.Ordinal);

    private static void UseBuffer(ContractWorld world, IExpressionFixture fixture, string expression)
    {
        using ExportedBuffer buffer = world.Host.CreateBuffer(expression, "contract", fixture.BufferSize);
        using OpenedDevice device = world.Host.Open("puppet:user,size=1M");
        IoFile file = device.OpenFile();
        DoIo(world, file, buffer.Buffer, isReadOnly: false);
        file.Put();
    }

    private static void DoIo(ContractWorld world, IoFile file, DmaBuf buffer, bool isReadOnly)
    {
        long block = Math.Max(file.BlockSize, Math.Min(4096, buffer.Size / 2 / file.BlockSize * file.BlockSize));
        using var ring = new Ring(new RingOptions { Name = "contract", Entries = 8, BufferSlots = 1 });
        ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer, File = file });
        for (int round = 0; round < 3; round++)
        {
            ring.TryWriteFixed(file, 0, 0, block, 0, 1);
            ring.TryReadFixed(file, 0, block, block, 0, 2);
            ring.TryFlush(file, 3);
            int count = ring.Submit();
            var completions = new RingCompletion[count];
            int reaped = 0;
            world.Eventually(() => (reaped += ring.Reap(completions.AsSpan(reaped))) == count, "N8", "a request has not ended.");
            foreach (RingCompletion completion in completions)
            {
                Errno expected = completion.UserData == 1 && isReadOnly ? Errno.EROFS : Errno.Ok;
                world.Check(completion.Status == expected, "L4", $"request {completion.UserData} of a write, a read and a flush ended with {completion.Status} and not with {expected}.");
            }
        }

        ring.RemoveBuffer(0).WaitReleased();
    }
}
