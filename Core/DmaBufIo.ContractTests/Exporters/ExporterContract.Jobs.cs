using System.Security.Cryptography;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.ContractTests;

/// <content>The exporter's own jobs: their order against I/O, and the fences that they leave.</content>
public abstract partial class ExporterContract
{
    // Long enough that jobs on it are still under way when the next step is taken.
    private const int LargeSize = 8 << 20;

    /// <summary>What a device has brought before a job was submitted, the job sees.</summary>
    [Fact]
    public virtual void T12_a_job_sees_what_requests_before_it_have_brought() => OnStage(
        static stage =>
        {
            byte[] bytes = Bytes(20, s_size);
            stage.Fill(bytes);
            PuppetImporter importer = stage.Import();
            for (int i = 0; i < 8; i++)
            {
                byte[] brought = Bytes(21 + i, 4096);
                brought.CopyTo(importer.Device.Store);
                importer.Read(4096, 4096);
                importer.Run("T12", "a request before a job");
                brought.CopyTo(bytes, 4096);
                byte[] hash = Done(stage, stage.Compute.Hash(stage.Buffer, 0, s_size)).ToArray();
                stage.World.Check(
                    hash.AsSpan().SequenceEqual(SHA256.HashData(bytes)),
                    "T12",
                    $"job {i + 1} that was submitted after a request had ended did not see what the request brought.");
            }
        },
        needs: ExporterCapabilities.Jobs);

    /// <summary>What a job writes, a request that is submitted after it sees, without any waiting by the application.</summary>
    [Fact]
    public virtual void T12_a_request_after_a_job_finds_what_the_job_has_written() => OnStage(
        static stage =>
        {
            PuppetImporter importer = stage.Import();
            const int At = LargeSize - 4096;
            for (int i = 1; i <= 5; i++)
            {
                importer.Write(At, 4096);
                importer.Run("T12", "a request before a job");
                IComputeJob job = Submit(stage, () => stage.Compute.Fill(stage.Buffer, 0, LargeSize, (byte)i));
                importer.Write(At, 4096);
                importer.Run("T12", "a request after a job");
                stage.World.Check(
                    importer.Device.Store[..4096].IndexOfAnyExcept((byte)i) < 0,
                    "T12",
                    $"a device that was given the buffer after a job had been submitted found what lay there before the job (job {i} has {(job.Fence.IsSignaled ? "ended by now" : "not ended")}).");
                Done(stage, job);
            }
        },
        LargeSize,
        ExporterCapabilities.Jobs);

    /// <summary>A device that writes waits for jobs that read.</summary>
    [Fact]
    public virtual void T12_a_device_does_not_write_what_a_job_still_reads() => OnStage(
        static stage =>
        {
            byte[] bytes = Bytes(30, LargeSize);
            stage.Fill(bytes);
            PuppetImporter importer = stage.Import();
            for (int i = 0; i < 4; i++)
            {
                byte[] brought = Bytes(31 + i, 4096);
                brought.CopyTo(importer.Device.Store);
                byte[] before = SHA256.HashData(bytes);
                IComputeJob job = Submit(stage, () => stage.Compute.Hash(stage.Buffer, 0, LargeSize));
                importer.Read(LargeSize - 4096, 4096);
                importer.Run("T12", "a request after a job");
                stage.World.Check(Done(stage, job).Span.SequenceEqual(before), "T12", "a device was given the buffer to write it while a job was still reading it.");
                brought.CopyTo(bytes, LargeSize - 4096);
            }

            stage.CheckContents(bytes, "T12", "after requests that came after jobs");
        },
        LargeSize,
        ExporterCapabilities.Jobs);

    /// <summary>However many fences there are, there is room for the next.</summary>
    [Fact]
    public virtual void F1_a_job_is_taken_however_many_fences_there_are() => OnStage(
        static stage =>
        {
            ExporterTarget other = stage.Create("other", s_size);
            var jobs = new List<IComputeJob>();
            for (int i = 0; i < 12; i++)
            {
                byte value = (byte)i;
                jobs.Add(Submit(stage, () => stage.Compute.Fill(stage.Buffer, 0, s_size, value), "F1"));
                jobs.Add(Submit(stage, () => stage.Compute.Hash(stage.Buffer, 0, s_size), "F1"));
                jobs.Add(Submit(stage, () => stage.Compute.Copy(stage.Buffer, 0, other.Buffer, 4096, 8192), "F1"));
                jobs.Add(Submit(stage, () => stage.Compute.Copy(other.Buffer, 4096, stage.Buffer, 16384, 8192), "F1"));
            }

            foreach (IComputeJob job in jobs)
                Done(stage, job);
        },
        needs: ExporterCapabilities.Jobs);

    /// <summary>A job that is refused is refused before anybody could wait for it.</summary>
    [Fact]
    public virtual void F1_a_job_that_is_refused_leaves_no_fence() => OnStage(
        static stage =>
        {
            foreach ((long offset, long length) in new[] { (0L, s_size + 1L), (s_size, 1L), (-1L, 1L), (long.MaxValue, 2L) })
            {
                for (int i = 0; i < 2; i++)
                {
                    bool isFill = i == 0;
                    Exception? refused = Record.Exception(() => isFill
                        ? stage.Compute.Fill(stage.Buffer, offset, length, 1)
                        : stage.Compute.Hash(stage.Buffer, offset, length));
                    stage.World.Check(
                        refused is DmaBufIoException { Errno: Errno.EFAULT },
                        "R2",
                        $"a job on {offset}+{length} of a buffer of {s_size} bytes is refused by EFAULT; {(refused is null ? "it was taken" : $"it threw {refused}")}.");
                    using var limit = new CancellationTokenSource(Hang.Limit);
                    stage.World.Check(
                        stage.Buffer.Reservation.Wait(FenceUsage.Bookkeep, limit.Token) == Errno.Ok,
                        "F1",
                        "a job that was refused has left a fence on the buffer that never signals.");
                }
            }
        },
        needs: ExporterCapabilities.Jobs);

    /// <summary>Who has waited for all fences of a buffer has waited for all its jobs.</summary>
    [Fact]
    public virtual void F2_no_fence_of_a_job_that_still_runs_is_lost() => OnStage(
        static stage =>
        {
            // Long ones and short ones: whichever signals first must not take the others' place.
            for (int i = 0; i < 10; i++)
            {
                NoneIsLost(
                    stage,
                    () => stage.Compute.Hash(stage.Buffer, 0, LargeSize),
                    () => stage.Compute.Hash(stage.Buffer, 4096, 4096));
                NoneIsLost(
                    stage,
                    () => stage.Compute.Fill(stage.Buffer, 0, LargeSize, 1),
                    () => stage.Compute.Fill(stage.Buffer, 0, LargeSize, 2),
                    () => stage.Compute.Fill(stage.Buffer, 0, LargeSize, 3),
                    () => stage.Compute.Fill(stage.Buffer, 8192, 4096, 4));
                NoneIsLost(
                    stage,
                    () => stage.Compute.Fill(stage.Buffer, 0, LargeSize, 5),
                    () => stage.Compute.Hash(stage.Buffer, 0, LargeSize),
                    () => stage.Compute.Fill(stage.Buffer, 0, 4096, 6),
                    () => stage.Compute.Hash(stage.Buffer, 0, 4096));
            }
        },
        LargeSize,
        ExporterCapabilities.Jobs);

    /// <summary>A device that maps the buffer waits for what the fences say, and no fence of the exporter is missing: a job that was submitted is waited for.</summary>
    [Fact]
    public virtual void F2_a_job_has_a_fence_on_each_of_its_buffers() => OnStage(
        static stage =>
        {
            ExporterTarget other = stage.Create("other", LargeSize);
            for (int i = 0; i < 4; i++)
            {
                IComputeJob job = Submit(stage, () => stage.Compute.Copy(stage.Buffer, 0, other.Buffer, 0, LargeSize));
                foreach (DmaBuf buffer in new[] { stage.Buffer, other.Buffer })
                {
                    stage.Settle(buffer);
                    stage.World.Check(job.Fence.IsSignaled, "F2", $"all fences of {buffer.Name} have signalled, and a job on it has not ended: its fence is not there.");
                    Done(stage, job);
                    job = Submit(stage, () => stage.Compute.Copy(stage.Buffer, 0, other.Buffer, 0, LargeSize));
                }

                Done(stage, job);
            }
        },
        LargeSize,
        ExporterCapabilities.Jobs);

    /// <summary>A job holds a reference on its buffers while it runs: the application may drop the last of its own, and the memory goes when the job has ended.</summary>
    [Fact]
    public virtual void T10_a_job_keeps_the_buffer_only_while_it_runs() => OnStage(
        static stage =>
        {
            for (int i = 0; i < 4; i++)
            {
                ExporterTarget target = stage.Create("outlived", LargeSize);
                DmaBuf buffer = target.Buffer;
                IComputeJob[] jobs = [Submit(stage, () => stage.Compute.Fill(buffer, 0, LargeSize, 1)), Submit(stage, () => stage.Compute.Hash(buffer, 0, LargeSize))];
                stage.Drop(target);
                foreach (IComputeJob job in jobs)
                    Done(stage, job);
                stage.World.Eventually(() => buffer.References == 0, "T10", () => $"{buffer.References} references on a buffer are left after its jobs have ended and its application has dropped its own.");
            }
        },
        needs: ExporterCapabilities.Jobs);

    private static void NoneIsLost(ExporterStage stage, params ReadOnlySpan<Func<IComputeJob>> submits)
    {
        var jobs = new List<IComputeJob>();
        foreach (Func<IComputeJob> submit in submits)
            jobs.Add(Submit(stage, submit));
        stage.Settle();
        for (int i = 0; i < jobs.Count; i++)
            stage.World.Check(jobs[i].Fence.IsSignaled, "F2", $"all fences of the buffer have signalled, and job {i + 1} of {jobs.Count} has not ended: its fence {jobs[i].Fence} was lost.");
        foreach (IComputeJob job in jobs)
            Done(stage, job);
    }

    private static IComputeJob Submit(ExporterStage stage, Func<IComputeJob> submit, string rule = "T12") => stage.World.Expect(rule, "when a job was submitted", submit);

    /// <summary>Waits for a job, and looks how it has ended.</summary>
    private static ReadOnlyMemory<byte> Done(ExporterStage stage, IComputeJob job)
    {
        using var limit = new CancellationTokenSource(Hang.Limit);
        if (job.Fence.Wait(limit.Token) != Errno.Ok)
            throw stage.World.Broken("F3", $"a job does not end although nobody holds a lock: its fence is {job.Fence}.{Environment.NewLine}{Hang.State()}");
        stage.World.Check(job.Failure is null, "T12", $"a job has failed: {job.Failure}");
        return job.Result;
    }
}
