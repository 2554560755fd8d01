using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <content>A move at every stage of a request, from before its map is made until after it was reaped.</content>
public abstract partial class ExporterContract
{
    /// <summary>Wherever a request stands when the buffer moves, it ends well, once, and moves the right bytes (draining design).</summary>
    [Fact]
    public virtual void F7_a_move_at_any_stage_of_a_request_loses_nothing() => AtEveryStage(TokenOptions.Default);

    /// <summary>The same in the fenced design.</summary>
    [Fact]
    public virtual void F7_a_move_at_any_stage_of_a_request_loses_nothing_when_invalidations_leave_fences() => AtEveryStage(Fenced);

    private void AtEveryStage(TokenOptions tokens)
    {
        foreach (RequestStage when in Enum.GetValues<RequestStage>())
        {
            foreach (bool isRead in new[] { true, false })
                OnStage(stage => MoveAt(stage, tokens, when, isRead), needs: ExporterCapabilities.Moves);
        }
    }

    private static void MoveAt(ExporterStage stage, TokenOptions tokens, RequestStage when, bool isRead)
    {
        const int At = 5 * 4096;
        const int Length = 3 * 4096;
        ContractWorld world = stage.World;
        string what = $"a {(isRead ? "read" : "write")} under which the buffer moved: {when}";
        byte[] bytes = Bytes(60, s_size);
        stage.Fill(bytes);
        PuppetImporter importer = stage.Import(tokens: tokens);
        PuppetBlockDevice device = importer.Device;
        bool isFirstMap = when is RequestStage.BeforeItsMapIsMade or RequestStage.WhileItsMapIsMade;
        if (!isFirstMap)
        {
            importer.Write(0, 4096);
            importer.Run("F7", "a request before the move");
        }

        byte[] brought = Bytes(61, Length);
        brought.CopyTo(device.Store);
        using var moves = new Moves(stage);
        if (when == RequestStage.BeforeItsMapIsMade)
            moves.Now();
        device.InMap = when == RequestStage.WhileItsMapIsMade ? moves.Once : null;
        device.OnSubmit = when == RequestStage.WhenItsBioIsSubmitted ? _ => moves.Once() : null;
        device.Hold = when is RequestStage.WhenItWaitsInTheDevice or RequestStage.WhenItHasEndedInTheDevice;
        world.Fabric.OnDma = when == RequestStage.BeforeItsDma ? dma => moves.Once(dma, device.Name) : null;
        world.Fabric.AfterDma = when == RequestStage.AfterItsDma ? dma => moves.Once(dma, device.Name) : null;
        if (isRead)
            importer.Read(At, Length);
        else
            importer.Write(At, Length);
        importer.Ring.Submit();
        if (when == RequestStage.WhenItWaitsInTheDevice)
            moves.Now();
        if (device.Hold)
            world.Check(device.Finish() == 1, "F7", $"{what}: the device does not have the request.");
        if (when == RequestStage.WhenItHasEndedInTheDevice)
            moves.Now();
        importer.Check(importer.Reap(1, "F7", what)[0], "F7", what);
        if (when == RequestStage.AfterItWasReaped)
            moves.Now();
        device.InMap = null;
        device.OnSubmit = null;
        device.Hold = false;
        world.Fabric.OnDma = null;
        world.Fabric.AfterDma = null;
        moves.Join();
        stage.Settle();
        if (isRead)
            brought.CopyTo(bytes, At);
        else
            stage.CheckBytes(bytes.AsSpan(At, Length), device.Store[..Length], "F7", $"{what}: the bytes that the device was given");
        stage.CheckContents(bytes, "F7", what);
    }

    private enum RequestStage
    {
        BeforeItsMapIsMade,
        WhileItsMapIsMade,
        WhenItsBioIsSubmitted,
        WhenItWaitsInTheDevice,
        BeforeItsDma,
        AfterItsDma,
        WhenItHasEndedInTheDevice,
        AfterItWasReaped,
    }

    /// <summary>A mover that is started at a place in the middle of a request, and has come as far as it can when that place is left.</summary>
    private sealed class Moves(ExporterStage stage) : IDisposable
    {
        private IActor? _mover;

        internal void Now()
        {
            _mover = stage.World.Actors.Start("mover", () => stage.Target.Move());
            _mover.UntilBlocked();
        }

        internal void Once()
        {
            if (_mover is null)
                Now();
        }

        internal Errno Once(in PuppetDma dma, string device)
        {
            if (dma.Device == device)
                Once();
            return Errno.Ok;
        }

        internal void Join()
        {
            stage.World.Check(_mover is not null, "F7", "a request did not come to the stage at which the buffer was to move.");
            stage.World.Eventually(() => _mover!.HasEnded, "F7", "a move does not end although the requests under it have ended.");
            _mover!.Join();
        }

        public void Dispose()
        {
            stage.World.Fabric.OnDma = null;
            stage.World.Fabric.AfterDma = null;
        }
    }
}
