using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <summary>An importer that is known to be correct: a puppet device with a ring, the buffer under test registered in slot 0. What it stores is the truth about what it was given.</summary>
internal sealed class PuppetImporter : IDisposable
{
    /// <summary>Bytes that it stores.</summary>
    internal const int Capacity = 2 << 20;

    private readonly ContractWorld _world;
    private readonly DmaAddressSpace _space;
    private readonly BlockDeviceFile _file;
    private bool _closed;

    internal PuppetImporter(ContractWorld world, DmaBuf buffer, string name, TokenOptions? tokens, DmaDirection direction, DeviceLocation? location)
    {
        _world = world;
        (_space, DmaPort port) = world.Fabric.AddDevice(name);
        Device = new PuppetBlockDevice(name, _space, port, Capacity, new QueueLimits(512) { MaxBytes = 1 << 20 }, location);
        _file = new BlockDeviceFile(Device);
        Ring = new Ring(new RingOptions { Name = name, Entries = 64, Tokens = tokens ?? TokenOptions.Default });
        try
        {
            Ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer, File = _file, Direction = direction });
        }
        catch
        {
            Close();
            throw;
        }
    }

    internal PuppetBlockDevice Device { get; }

    internal Ring Ring { get; }

    internal DmaBufToken Token => Ring.TokenAt(0)!;

    /// <summary>Prepares a read: the device writes the buffer, with what it has stored.</summary>
    internal void Read(long bufferOffset, int length, long storeOffset = 0, ulong userData = 1) =>
        Prepared(Ring.TryReadFixed(_file, 0, bufferOffset, length, storeOffset, userData));

    /// <summary>Prepares a write: the device reads the buffer, and stores that.</summary>
    internal void Write(long bufferOffset, int length, long storeOffset = 0, ulong userData = 1) =>
        Prepared(Ring.TryWriteFixed(_file, 0, bufferOffset, length, storeOffset, userData));

    /// <summary>Submits and reaps everything that is prepared; each request must succeed.</summary>
    internal void Run(string rule, string what)
    {
        int count = Ring.Submit();
        foreach (RingCompletion completion in Reap(count, rule, what))
            Check(completion, rule, what);
    }

    /// <summary>Reaps so many completions.</summary>
    internal RingCompletion[] Reap(int count, string rule, string what)
    {
        var completions = new RingCompletion[count];
        int reaped = 0;
        _world.Eventually(() => (reaped += Ring.Reap(completions.AsSpan(reaped))) == count, rule, $"{what}: of {count} requests of {Device.Name} some have not ended.");
        return completions;
    }

    /// <summary>A request of the puppet must succeed: only the exporter can have made it fail.</summary>
    internal void Check(in RingCompletion completion, string rule, string what) => _world.Check(
        completion.Status == Errno.Ok,
        rule,
        $"{what}: a request of {Device.Name} ended with {completion.Status}: {Token.LastMapError?.Message ?? ExporterStage.LastReportOf(_world)}");

    /// <summary>Closes ring, file and device; what is left then of the buffer's references is the exporter's.</summary>
    public void Dispose()
    {
        if (_closed)
            return;
        Device.Hold = false;
        Device.Finish();
        RemovedBuffer removed = Ring.RemoveBuffer(0);
        Close();
        using var limit = new CancellationTokenSource(Hang.Limit);
        if (removed.WaitReleased(limit.Token) != Errno.Ok)
            throw _world.Broken("T10", $"a registration of {Device.Name} does not come to its end.{Environment.NewLine}{Hang.State()}");
        try
        {
            int left = _world.Fabric.Mappings.Count(m => m.Device == Device.Name);
            _world.Check(left == 0, "T8", $"{left} mappings of {Device.Name} are left although its registration has ended.");
        }
        finally
        {
            _world.Fabric.RemoveDevice(_space);
        }
    }

    private static void Prepared(bool prepared)
    {
        if (!prepared)
            throw new InvalidOperationException("The contract has prepared more requests than the ring holds.");
    }

    private void Close()
    {
        _closed = true;
        Ring.Dispose();
        _file.Put();
    }
}
