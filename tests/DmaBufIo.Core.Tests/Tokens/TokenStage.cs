using DmaBufIo.Devices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Models.Exporters;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Tests.SyncTests;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.TokenTests;

/// <summary>
/// One token with a scripted driver over a buffer that moves, under a strict IOMMU, and one context: references are taken and dropped by hand, so
/// every moment between them can be looked at.
/// </summary>
internal sealed class TokenStage : IDisposable
{
    internal const int Size = 64 << 10;
    private static int s_last;

    internal TokenStage(TokenOptions? options = null, DmaBuf? buffer = null, ModelIommu? iommu = null, DmaDevice? device = null)
    {
        int number = Interlocked.Increment(ref s_last);
        OwnsIommu = iommu is null;
        Iommu = iommu ?? new ModelIommu();
        (DmaAddressSpace space, Port) = Iommu.AddDevice($"device{number}");
        Device = device ?? new DmaDevice($"device{number}", space);
        OwnBuffer = buffer is null ? MovingExporter.Create($"buffer{number}", Size) : null;
        Buffer = buffer ?? OwnBuffer!.Buffer;
        Context = new IoContext($"context{number}");
        Token = DmaBufToken.Create(Owner, Buffer, DmaDirection.Bidirectional, options ?? TokenOptions.Default,
            (b, d) => Driver = new ScriptedDriver(b, d, Device));
    }

    internal ModelIommu Iommu { get; }

    internal DmaDevice Device { get; }

    internal DmaPort Port { get; }

    internal DmaBuf Buffer { get; }

    internal MovingExporter Exporter => OwnBuffer!;

    internal CountingOwner Owner { get; } = new();

    internal ScriptedDriver Driver { get; private set; } = null!;

    internal DmaBufToken Token { get; }

    internal IoContext Context { get; }

    internal string LockText => $"reservation lock of {Buffer.Name}";

    private bool OwnsIommu { get; }

    private MovingExporter? OwnBuffer { get; }

    /// <summary>Takes a reference as a ring does: fast, else slow.</summary>
    internal DmaMap Take(IoContext? context = null)
    {
        context ??= Context;
        Errno status = TryTake(out DmaMap? map, TestContext.Current.CancellationToken, context);
        Assert.Equal(Errno.Ok, status);
        return map!;
    }

    internal Errno TryTake(out DmaMap? map, CancellationToken cancellationToken, IoContext? context = null)
    {
        context ??= Context;
        context.Enter();
        map = Token.TryGetMap(context);
        if (map is null)
        {
            context.Leave();
            Errno status = Token.GetMap(context, out map, cancellationToken);
            if (status != Errno.Ok)
                return status;
        }

        context.Leave();
        return Errno.Ok;
    }

    /// <summary>Takes a reference only if there is a live map.</summary>
    internal DmaMap? TakeLive(IoContext? context = null)
    {
        context ??= Context;
        context.Enter();
        DmaMap? map = Token.TryGetMap(context);
        context.Leave();
        return map;
    }

    internal void Drop(DmaMap map, IoContext? context = null)
    {
        context ??= Context;
        context.Enter();
        DmaBufToken.Drop(map, context);
        context.Leave();
    }

    internal InvalidationReport Invalidate()
    {
        using ReservationGuard guard = Buffer.Reservation.Hold();
        return Buffer.InvalidateMappings(guard.Held);
    }

    internal LockState LockState() => Assert.Single(DmaBufIoDiagnostics.Snapshot().Locks, l => l.Buffer == Buffer.Name);

    internal FenceState[] Fences() => [.. DmaBufIoDiagnostics.Snapshot().Fences.Where(f => f.Buffer == Buffer.Name)];

    internal TokenState? State() => DmaBufIoDiagnostics.Snapshot().Tokens.FirstOrDefault(t => t.Token == Token.Name);

    internal KilledMapState[] Killed() => [.. DmaBufIoDiagnostics.Snapshot().KilledMaps.Where(k => k.Token == Token.Name)];

    internal void UntilUnmapped() => Actor.Until(() => Token.Maps == 0, "every map is unmapped");

    internal void Release()
    {
        Token.Release();
        using var limit = new CancellationTokenSource(Actor.Limit);
        Assert.Equal(Errno.Ok, Token.WaitReleased(limit.Token));
    }

    public void Dispose()
    {
        Release();
        Assert.Equal(0, Owner.References);
        Assert.Equal(Driver.MapCalls, Driver.UnmapCalls + FailedMaps);
        Assert.Equal(1, Driver.ReleaseCalls);
        Context.Dispose();
        if (OwnBuffer is not null)
        {
            Assert.Equal(1, Buffer.References);
            Assert.Equal(0, Buffer.Attachments);
            Buffer.Put();
        }

        if (!OwnsIommu)
            return;
        Assert.Equal(0, Iommu.LiveMappings);
        Assert.Equal(0, Iommu.StaleAccesses);
        Assert.Equal(0, Iommu.Faults);
        Iommu.Dispose();
    }

    /// <summary>Calls of the driver's map that threw: the test says how many.</summary>
    internal int FailedMaps { get; set; }
}
