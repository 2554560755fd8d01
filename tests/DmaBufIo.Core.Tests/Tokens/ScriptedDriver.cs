using DmaBufIo.Devices;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>A token driver that counts its calls and lets a test act inside each of them.</summary>
internal sealed class ScriptedDriver(DmaBuf buffer, DmaDirection direction, DmaDevice device) : TokenDriver(buffer, direction)
{
    private DmaAttachment? _attachment;
    private int _maps;
    private int _unmaps;
    private int _releases;

    internal Action? BeforeAttach { get; set; }

    internal Action? InSetup { get; set; }

    internal Action? InMap { get; set; }

    internal Action? AfterMap { get; set; }

    internal Action<DmaMap>? InUnmap { get; set; }

    internal Action? InRelease { get; set; }

    /// <summary>True: map answers null, which its contract does not allow.</summary>
    internal bool AnswersNull { get; set; }

    internal int MapCalls => Volatile.Read(ref _maps);

    internal int UnmapCalls => Volatile.Read(ref _unmaps);

    internal int ReleaseCalls => Volatile.Read(ref _releases);

    protected override void Setup()
    {
        BeforeAttach?.Invoke();
        _attachment = Attach(device);
        InSetup?.Invoke();
    }

    public override DmaMap Map(in HeldReservation held)
    {
        Interlocked.Increment(ref _maps);
        InMap?.Invoke();
        if (AnswersNull)
            return null!;
        var map = new ScriptedMap(_attachment!.Map(Direction, held));
        AfterMap?.Invoke();
        return map;
    }

    public override void Unmap(DmaMap map, in HeldReservation held)
    {
        Interlocked.Increment(ref _unmaps);
        InUnmap?.Invoke(map);
        _attachment!.Unmap(((ScriptedMap)map).Table, held);
    }

    public override void Release()
    {
        InRelease?.Invoke();
        Interlocked.Increment(ref _releases);
    }

    private sealed class ScriptedMap(SgTable table) : DmaMap(table.Ranges.Sum(static r => r.Length), table.Ranges.Min(static r => r.Length))
    {
        internal SgTable Table { get; } = table;
    }
}

/// <summary>A token's file that counts its references.</summary>
internal sealed class CountingOwner : ITokenOwner
{
    private int _references;
    private int _gets;
    private int _puts;

    public string Name => "counted file";

    internal int References => Volatile.Read(ref _references);

    internal int Gets => Volatile.Read(ref _gets);

    internal int Puts => Volatile.Read(ref _puts);

    internal Func<Exception>? FailGet { get; set; }

    internal Action? InPut { get; set; }

    public void Get()
    {
        if (FailGet is { } failure)
            throw failure();
        Interlocked.Increment(ref _references);
        Interlocked.Increment(ref _gets);
    }

    public void Put()
    {
        InPut?.Invoke();
        Interlocked.Decrement(ref _references);
        Interlocked.Increment(ref _puts);
    }
}
