using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

/// <summary>A stage whose buffer is registered with AllowBounce, filled with random bytes on both sides, and what is counted from then on.</summary>
internal sealed class BounceStage : IDisposable
{
    /// <summary>Bytes of a piece: the pool has eight pages unless a test says otherwise.</summary>
    internal const int Piece = 4096;

    private readonly long _copied = Counters.BytesCopied.Value;

    internal BounceStage(
        BounceReason whole = BounceReason.NotMappable, InvalidationDesign design = InvalidationDesign.Draining, RingOptions? ring = null, Action<PuppetBlockDevice>? device = null, bool register = true)
    {
        Stage = new Stage(
            TokenOptions.Default with { Design = design }, ring ?? Options, new QueueLimits(512), register: false);
        new Random(1).NextBytes(Stage.Device.Store);
        new Random(2).NextBytes(Stage.Exporter.Region.Span(0, Stage.BufferSize));
        Stage.Device.TakesTokens = whole != BounceReason.NotMappable;
        if (whole == BounceReason.NoPeerToPeer)
            Stage.Device.FailSetup = static () => Refusal(Errno.EREMOTEIO);
        device?.Invoke(Stage.Device);
        if (register)
            Register();
        Stage.Device.FailSetup = null;
    }

    /// <summary>How the ring is made unless a test says otherwise.</summary>
    internal static RingOptions Options { get; } = new() { Name = "bouncing", Entries = 32, TransferPolicy = TransferPolicy.AllowBounce, BouncePoolSize = 8 * Piece };

    internal Stage Stage { get; }

    internal Ring Ring => Stage.Ring;

    internal PuppetBlockDevice Device => Stage.Device;

    /// <summary>Bytes that the CPU has copied since the stage was made.</summary>
    internal long Copied => Counters.BytesCopied.Value - _copied;

    internal DmaBufToken BounceToken => Ring.BounceTokenAt(0)!;

    internal Span<byte> Buffer(long offset, int length) => Stage.Exporter.Region.Span(offset, length);

    internal Span<byte> Store(int offset, int length) => Device.Store.Slice(offset, length);

    internal static DmaBufIoException Refusal(Errno status) => new(status, "test", "puppet0", "as the test wants it", "Change the test");

    internal void Register(ulong tag = 0, TransferPolicy? policy = null, BufferMapping mapping = BufferMapping.Premapped) =>
        Ring.RegisterBuffer(0, new BufferRegistration { Buffer = Stage.Exporter.Buffer, File = Stage.File, Tag = tag, Policy = policy, Mapping = mapping });

    /// <summary>Users of the CPU's live map, as a snapshot tells.</summary>
    internal long Users() => DmaBufIoDiagnostics.Snapshot().Tokens.Single(t => t.Token == BounceToken.Name).Users;

    /// <summary>Nothing is left in flight or held.</summary>
    internal void AssertQuiet()
    {
        Assert.Equal((0, Stage.Ring.Room), (Ring.InFlight, Options.Entries));
        Assert.Equal(0, Ring.BounceTokenAt(0) is null ? 0 : Users());
    }

    public void Dispose() => Stage.Dispose();
}
