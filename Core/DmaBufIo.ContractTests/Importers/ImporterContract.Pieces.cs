using DmaBufIo.Errors;
using DmaBufIo.Rings;

namespace DmaBufIo.ContractTests;

/// <content>Buffers of many pieces, of odd pieces, and large ones (N1, N9, R7).</content>
public abstract partial class ImporterContract
{
    /// <summary>A buffer of many single pages: transferred right, or refused with a reason; never in part.</summary>
    [Fact]
    public virtual void N9_a_buffer_of_single_pages_is_transferred_right_or_refused() => OnPieces([.. Enumerable.Repeat(4096L, 300)]);

    /// <summary>A buffer of pieces of odd numbers of pages: transferred right, or refused with a reason; never in part.</summary>
    [Fact]
    public virtual void N9_a_buffer_of_odd_pieces_is_transferred_right_or_refused() => OnPieces([.. Enumerable.Range(0, 60).Select(static i => 4096L * (1 + (2 * (i % 7))))]);

    /// <summary>A buffer of more than 1 GiB works at its start, around the first GiB and at its end.</summary>
    [Fact]
    public virtual void R7_a_buffer_of_more_than_1_GiB_works_everywhere() => OnLarge([(1L << 30) + (256 << 10)]);

    /// <summary>So does one whose pieces are joined there.</summary>
    [Fact]
    public virtual void R7_a_buffer_of_two_pieces_joined_at_1_GiB_works_everywhere() => OnLarge([1L << 30, 256 << 10]);

    private void OnPieces(long[] pieces) => OnStage(
        new StageSetup { Pieces = pieces, Entries = 128, Registers = false },
        stage =>
        {
            int length = stage.Blocks(32768);
            int size = (int)stage.Buffer.Buffer.Size;
            // A device that cannot take such pieces says so when the buffer is registered, or when the first request makes the map.
            if (Refused(stage, length) is { } reason)
            {
                TestContext.Current.TestOutputHelper?.WriteLine($"refused: {reason}");
                return;
            }

            for (int round = 0; round < 2; round++)
            {
                // All of it, so that every joint is crossed; from the start, and shifted against the pieces.
                int shift = round * (length / 2 / stage.Target.BlockSize * stage.Target.BlockSize);
                int count = ((stage.HasPlaces ? (int)Math.Min(size, stage.Target.Capacity) : size) - shift) / length;
                byte[] data = Bytes(round, count * length);
                stage.Give(data, length);
                for (int i = 0; i < count; i++)
                    stage.Read((long)i * length, shift + ((long)i * length), length, (ulong)i + 1);
                stage.Ring.Submit();
                foreach (RingCompletion ended in stage.ReapEach(count, "N9"))
                    stage.Ended(ended, length, "N9", "a read into a buffer of many pieces");
                CheckRange(stage, data, shift, count, length);
                stage.Buffer.Write(shift, data = Bytes(round + 10, count * length));
                stage.Expect(count, length);
                for (int i = 0; i < count; i++)
                    stage.Write((long)i * length, shift + ((long)i * length), length, (ulong)i + 1);
                stage.Ring.Submit();
                foreach (RingCompletion ended in stage.ReapEach(count, "N9"))
                    stage.Ended(ended, length, "N9", "a write from a buffer of many pieces");
                byte[] found = stage.Take(count, length);
                stage.CheckEqual(data, found, "N9", $"writes from a buffer of many pieces");
            }
        },
        situation: $"a buffer of {pieces.Length} pieces");

    /// <summary>Registers the buffer and makes its first map.</summary>
    /// <returns>Why the device refuses, or null when it does not.</returns>
    private static string? Refused(ImporterStage stage, int length)
    {
        try
        {
            stage.Ring.RegisterBuffer(0, stage.Registration);
        }
        catch (DmaBufIoException e)
        {
            return e.Message;
        }

        stage.Target.Give(0, Bytes(1, length));
        stage.Read(0, 0, length);
        RingCompletion first = stage.Run("N9")[0];
        if (first.Status == Errno.Ok)
            return null;
        string? reason = stage.Token.LastMapError?.Message;
        stage.World.Check(reason is not null && first.Bytes == 0, "N9", $"the first request of a buffer of many pieces ended with {first.Status}, and nothing says why.");
        return reason;
    }

    private static void CheckRange(ImporterStage stage, byte[] data, int shift, int count, int length)
    {
        byte[] found = new byte[count * length];
        stage.Buffer.Read(shift, found);
        stage.CheckEqual(data, found, "N9", $"reads into a buffer of many pieces");
    }

    private void OnLarge(long[] pieces) => OnStage(
        new StageSetup { Pieces = pieces, Registers = false },
        stage =>
        {
            stage.Register(0, "R7");
            int length = stage.Blocks(8192);
            long size = stage.Buffer.Buffer.Size;
            long[] offsets = [0, (1L << 30) - 4096, 1L << 30, (1L << 30) + 4096, size - length];
            for (int i = 0; i < offsets.Length; i++)
            {
                byte[] data = Bytes(i, length);
                stage.Target.Give(0, data);
                stage.Read(0, offsets[i], length);
                stage.Ended(stage.Run("R7")[0], length, "R7", $"a read into the buffer at {offsets[i]}");
                byte[] found = new byte[length];
                stage.Buffer.Read(offsets[i], found);
                stage.CheckEqual(data, found, "R7", $"a read into the buffer at {offsets[i]}");
                stage.Buffer.Write(offsets[i], data = Bytes(i + 10, length));
                stage.Expect(1, length);
                stage.Write(0, offsets[i], length);
                stage.Ended(stage.Run("R7")[0], length, "R7", $"a write from the buffer at {offsets[i]}");
                found = stage.Target.Take(0, length);
                stage.CheckEqual(data, found, "R7", $"a write from the buffer at {offsets[i]}");
            }

            // Beyond 1 GiB nothing may have landed at the same place modulo 1 GiB.
            byte[] low = new byte[length];
            stage.Buffer.Read(0, low);
            stage.World.Check(low.AsSpan().SequenceEqual(Bytes(10, length)), "R7", "requests beyond 1 GiB have changed the beginning of the buffer.");
        },
        situation: $"a buffer of {pieces.Sum()} bytes in {pieces.Length} pieces");
}
