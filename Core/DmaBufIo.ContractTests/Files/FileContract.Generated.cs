using DmaBufIo.Errors;
using DmaBufIo.Iov;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Rings;
using FsCheck.Fluent;

namespace DmaBufIo.ContractTests;

/// <content>Random sequences of requests beside a plain array.</content>
public abstract partial class FileContract
{
    /// <summary>Any sequence of requests, also several at once and at the end of the file, does to it what it does to an array.</summary>
    [Fact]
    public virtual void I2_any_sequence_of_requests_behaves_as_a_plain_array() => OnStage(
        stage =>
        {
            int size = (int)(stage.File.Size / stage.Block * stage.Block);
            Generated.Run(stage.World, "I2", Gen.Choose(0, int.MaxValue), 20, 60, numbers =>
            {
                byte[] file = Bytes(130, size);
                stage.Target.Give(0, file);
                var done = new List<string>();
                foreach (int number in numbers)
                    Step(stage, number, file, done);
                stage.CheckBytes(file, stage.Target.Take(0, size), "I2", $"after [{string.Join(", ", done)}] the file");
            },
            () => stage.Ring.InFlight == 0);
        },
        FileCapabilities.KeepsData);

    private void Step(FileStage stage, int number, byte[] file, List<string> done)
    {
        var random = new Random(number);
        int block = stage.Block;
        int blocks = file.Length / block;
        foreach (PuppetBlockDevice disk in stage.Disks)
            disk.QueueDepth = random.Next(1, 5);
        byte[] buffer = stage.FillBuffer(number);
        int slot = buffer.Length / 3 / 4096 * 4096;
        int room = (slot - 4096) / block;
        var lengths = new long[3];
        int requests = random.Next(1, 4);
        int part = blocks / requests;
        for (int i = 0; i < requests; i++)
        {
            // Places of their own, so that their order does not matter; the last may cross the end of the file.
            int first = (i * part) + random.Next(part);
            int most = i == requests - 1 ? room : Math.Min(room, ((i + 1) * part) - first);
            int asked = random.Next(most + 1) * block;
            long offset = first * (long)block;
            int moved = (int)Math.Min(asked, file.Length - offset);
            int at = (i * slot) + (random.Next(32) * 4 / stage.Target.MemoryAlignment * stage.Target.MemoryAlignment);
            lengths[i] = moved;
            bool isRead = random.Next(2) == 0;
            int unit = Math.Max(block, stage.Target.MemoryAlignment);
            bool isVector = Can(FileCapabilities.Vectors) && random.Next(3) == 0 && asked >= 2 * unit;
            done.Add($"{(isRead ? "read" : "write")} {offset}+{asked}{(isVector ? " in two ranges" : "")}");

            // The second range of a vector lies before the first.
            int second = isVector ? random.Next(1, asked / unit) * unit : 0;
            BufferRange[] ranges = isVector ? [new BufferRange(at + second, asked - second), new BufferRange(at, second)] : [new BufferRange(at, asked)];
            int position = 0;
            foreach (BufferRange range in ranges)
            {
                int piece = (int)Math.Clamp(moved - position, 0, range.Length);
                Span<byte> inFile = file.AsSpan((int)offset + position, piece);
                Span<byte> inBuffer = buffer.AsSpan((int)range.Offset, piece);
                if (isRead)
                    inFile.CopyTo(inBuffer);
                else
                    inBuffer.CopyTo(inFile);
                position += piece;
            }

            if (isVector)
                Prepare(stage, isRead, offset, ranges, (ulong)i);
            else if (isRead)
                stage.Read(offset, at, asked, (ulong)i);
            else
                stage.Write(offset, at, asked, (ulong)i);
        }

        string what = $"the last of [{string.Join(", ", done)}]";
        foreach (RingCompletion completion in stage.Run())
            stage.Ended(completion, lengths[completion.UserData], "I2", what);
        stage.CheckBuffer(buffer, "I2", what);
    }

    private static void Prepare(FileStage stage, bool isRead, long offset, BufferRange[] ranges, ulong userData)
    {
        if (isRead)
            stage.ReadVector(offset, ranges, userData);
        else
            stage.WriteVector(offset, ranges, userData);
    }
}
