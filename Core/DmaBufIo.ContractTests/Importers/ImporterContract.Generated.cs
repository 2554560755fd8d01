using DmaBufIo.Errors;
using DmaBufIo.Rings;
using FsCheck;
using FsCheck.Fluent;

namespace DmaBufIo.ContractTests;

/// <content>Random sequences of everything that may come, against two byte arrays.</content>
public abstract partial class ImporterContract
{
    /// <summary>Whatever comes in whatever order, device and buffer hold what two byte arrays say.</summary>
    [Fact]
    public virtual void R4_any_sequence_of_requests_moves_registrations_and_resets_leaves_what_two_byte_arrays_say() => InBothDesigns(
        stage =>
        {
            SkipUnless(ImporterCapabilities.KeepsData | ImporterCapabilities.MovesData);
            Verb[] verbs = [Verb.Read, Verb.Read, Verb.Read, Verb.Write, Verb.Write, Verb.Write, Verb.Reap, Verb.Move, Verb.Register, .. Can(ImporterCapabilities.Reset) ? [Verb.Reset] : Array.Empty<Verb>()];
            Gen<int> number = Gen.Choose(0, 1 << 16);
            Gen<Step> steps =
                from verb in Gen.Elements(verbs)
                from device in Gen.Choose(0, Model.Areas - 1)
                from buffer in Gen.Choose(0, Model.Areas - 1)
                from start in number
                from count in number
                from shift in number
                select new Step(verb, device, buffer, start, count, shift);
            var model = new Model(stage);
            Generated.Run(stage.World, "R4", steps, 40, 20, model.Run, () => stage.Ring.InFlight == 0);
        },
        8192, 4096, 4096, 12288, 20480, 64 << 10, 128 << 10);

    private enum Verb
    {
        Read,
        Write,
        Reap,
        Move,
        Register,
        Reset,
    }

    /// <summary>A step: for requests which area of the device and of the buffer, and numbers that become offsets and lengths in them.</summary>
    private readonly record struct Step(Verb Verb, int Device, int Buffer, int Start, int Count, int Shift)
    {
        public override string ToString() => Verb is Verb.Read or Verb.Write ? $"{Verb}({Device}, {Buffer}, {Start}, {Count}, {Shift})" : $"{Verb}";
    }

    private sealed class Model
    {
        internal const int Areas = 12;
        private readonly ImporterStage _stage;
        private readonly int _block;
        private readonly int _area;
        private readonly byte[] _device;
        private readonly byte[] _buffer;
        private readonly Dictionary<ulong, (Step Step, int Place, int Offset, int Length)> _running = [];
        private ulong _next;
        private bool _wasReset;

        internal Model(ImporterStage stage)
        {
            _stage = stage;
            _block = stage.Target.BlockSize;
            _area = 4 * stage.Blocks(2048);
            _device = new byte[Areas * _area];
            _buffer = new byte[Areas * _area];
        }

        internal void Run(Step[] steps)
        {
            _running.Clear();
            _wasReset = false;
            Bytes(steps.Length, _device.Length).CopyTo(_device, 0);
            Bytes(steps.Length + 1, _buffer.Length).CopyTo(_buffer, 0);
            _stage.Target.Give(0, _device);
            _stage.Buffer.Write(0, _buffer);
            foreach (Step step in steps)
                Do(step);
            Finish();
            byte[] device = _stage.Target.Take(0, _device.Length);
            _stage.CheckEqual(_device, device, "R4", "the device");
            byte[] buffer = _stage.Contents()[.._buffer.Length];
            _stage.CheckEqual(_buffer, buffer, "R4", "the buffer");
        }

        private void Do(in Step step)
        {
            switch (step.Verb)
            {
                case Verb.Read or Verb.Write:
                    Start(step);
                    break;
                case Verb.Reap:
                    Reap();
                    break;
                case Verb.Move:
                    _stage.Move(elsewhere: (step.Start & 1) == 0);
                    break;
                case Verb.Register:
                    _stage.Register(0, "R6");
                    break;
                default:
                    _wasReset = true;
                    _stage.World.Ends("reset", _stage.Target.Reset, "T11", "a reset under load did not come to its end.");
                    break;
            }
        }

        private void Start(Step step)
        {
            // What runs together touches different areas, so that its order does not matter.
            if (_running.Count == 32 || _running.Values.Any(r => r.Step.Device == step.Device || r.Step.Buffer == step.Buffer))
                Finish();
            int blocks = _area / _block;
            int start = step.Start % blocks;
            int length = (1 + (step.Count % (blocks - start))) * _block;
            int align = _stage.Target.MemoryAlignment;
            int place = (step.Device * _area) + (start * _block);
            int offset = (step.Buffer * _area) + (step.Shift % (((_area - length) / align) + 1) * align);
            _running.Add(++_next, (step, place, offset, length));
            if (step.Verb == Verb.Read)
                _stage.Read(place, offset, length, _next);
            else
                _stage.Write(place, offset, length, _next);
            _stage.Ring.Submit();
        }

        private void Finish()
        {
            bool ended = Hang.Until(() =>
            {
                Reap();
                return _running.Count == 0;
            });
            if (!ended)
                throw _stage.World.Broken("R4", $"{_running.Count} requests do not end.{Environment.NewLine}{Hang.State()}");
            _wasReset = false;
        }

        private void Reap()
        {
            var completions = new RingCompletion[8];
            int reaped = _stage.Ring.Reap(completions);
            foreach (RingCompletion completion in completions.AsSpan(0, reaped))
            {
                _stage.World.Check(_running.Remove(completion.UserData, out (Step Step, int Place, int Offset, int Length) done), "R4", $"request {completion.UserData} ended twice, or was never made.");
                if (completion.Status != Errno.Ok && _wasReset)
                    Adopt(done);
                else
                    Apply(completion, done);
            }
        }

        private void Apply(in RingCompletion completion, in (Step Step, int Place, int Offset, int Length) done)
        {
            _stage.Ended(completion, done.Length, "R4", $"{done.Step}");
            Span<byte> device = _device.AsSpan(done.Place, done.Length);
            Span<byte> buffer = _buffer.AsSpan(done.Offset, done.Length);
            if (done.Step.Verb == Verb.Read)
                device.CopyTo(buffer);
            else
                buffer.CopyTo(device);
        }

        // A reset has ended it somewhere on the way: its own bytes are what they are.
        private void Adopt(in (Step Step, int Place, int Offset, int Length) done)
        {
            if (done.Step.Verb == Verb.Read)
                _stage.Buffer.Read(done.Offset, _buffer.AsSpan(done.Offset, done.Length));
            else
                _stage.Target.Take(done.Place, done.Length).CopyTo(_device, done.Place);
        }
    }
}
