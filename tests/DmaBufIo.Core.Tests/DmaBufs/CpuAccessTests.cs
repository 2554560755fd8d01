using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Tests.SyncTests;

namespace DmaBufIo.Tests.DmaBufTests;

/// <summary>The CPU looks into buffers that move.</summary>
public sealed class CpuAccessTests
{
    [Fact]
    public void What_is_written_is_read_again_across_pieces_and_moves()
    {
        var exporter = PuppetExporter.Create("b0", 4096, 8192, 4096);
        byte[] data = new byte[16384];
        new Random(1).NextBytes(data);
        exporter.Buffer.Write(0, data, TestContext.Current.CancellationToken);
        exporter.Buffer.Write(4090, new byte[100], TestContext.Current.CancellationToken);
        data.AsSpan(4090, 100).Clear();
        exporter.Move(TestContext.Current.CancellationToken);
        byte[] found = new byte[10000];
        exporter.Buffer.Read(3000, found, TestContext.Current.CancellationToken);
        Assert.Equal(data[3000..13000], found);
        exporter.Buffer.Put();
    }

    [Fact]
    public void F7_a_buffer_stays_where_it_is_while_the_CPU_reads_it()
    {
        var exporter = PuppetExporter.Create("b0", 1 << 20);
        byte[] data = new byte[1 << 20];
        new Random(1).NextBytes(data);
        exporter.Buffer.Write(0, data, TestContext.Current.CancellationToken);
        Actor mover = Actor.Start("mover", () =>
        {
            for (int i = 0; i < 200; i++)
                exporter.Move();
        });
        byte[] found = new byte[1 << 20];
        do
        {
            exporter.Buffer.Read(0, found, TestContext.Current.CancellationToken);
            Assert.True(found.AsSpan().SequenceEqual(data), "the contents of a place that was left were read");
        }
        while (!mover.IsDone);
        mover.Join();
        exporter.Buffer.Put();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void T12_a_job_that_writes_is_waited_for_and_one_that_reads_only_by_a_write(bool isWrite)
    {
        var exporter = PuppetExporter.Create("b0", 4096);
        ReservationObject reservation = exporter.Buffer.Reservation;
        DmaFence Job(FenceUsage usage)
        {
            using ReservationGuard guard = reservation.Lock();
            reservation.Reserve(guard.Held, 1);
            var fence = new DmaFence("job", DmaFence.NewContext(), 1);
            reservation.Add(guard.Held, fence, usage);
            return fence;
        }

        DmaFence reader = Job(FenceUsage.Read);
        byte[] bytes = new byte[16];
        if (!isWrite)
            exporter.Buffer.Read(0, bytes, TestContext.Current.CancellationToken);
        DmaFence writer = Job(FenceUsage.Write);
        Actor cpu = Actor.Start("cpu", () =>
        {
            if (isWrite)
                exporter.Buffer.Write(0, bytes);
            else
                exporter.Buffer.Read(0, bytes);
        });
        cpu.UntilItWaitsFor("fence job");
        Assert.False(reservation.IsLocked); // the job may need the lock to make progress (D1)
        writer.Signal();
        if (isWrite)
            cpu.UntilItWaitsFor("fence job");
        reader.Signal();
        cpu.Join();
        exporter.Buffer.Put();
    }

    [Theory]
    [InlineData(-1, 1)]
    [InlineData(4095, 2)]
    [InlineData(long.MaxValue, 1)]
    public void R2_a_range_that_leaves_the_buffer_is_EFAULT(long offset, int length)
    {
        var exporter = PuppetExporter.Create("b0", 4096);
        Assert.Equal(Errno.EFAULT, Assert.Throws<DmaBufIoException>(() => exporter.Buffer.Read(offset, new byte[length], TestContext.Current.CancellationToken)).Errno);
        Assert.Equal(Errno.EFAULT, Assert.Throws<DmaBufIoException>(() => exporter.Buffer.Write(offset, new byte[length], TestContext.Current.CancellationToken)).Errno);
        exporter.Buffer.Put();
    }
}
