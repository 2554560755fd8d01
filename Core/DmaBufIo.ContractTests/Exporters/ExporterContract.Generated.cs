using System.Security.Cryptography;
using DmaBufIo.Memory;
using DmaBufIo.Plugins;
using FsCheck.Fluent;

namespace DmaBufIo.ContractTests;

/// <content>Random sequences of everything, and everything at once.</content>
public abstract partial class ExporterContract
{
    /// <summary>Any sequence of attaching, mapping, moving, requests, jobs and accesses behaves as a plain array does.</summary>
    [Fact]
    public virtual void N1_any_sequence_of_steps_behaves_as_a_plain_array() => OnStage(stage =>
    {
        Generated.Run(stage.World, "N1", Gen.Choose(0, int.MaxValue), 30, 120, numbers =>
        {
            var model = new ExporterModel(stage, Fixture.Capabilities, 5 * MemoryRegion.PageSize);
            try
            {
                foreach (int number in numbers)
                    model.Step(number);
                model.Finish();
            }
            catch
            {
                model.Abandon();
                throw;
            }
        });
    });

    /// <summary>Two devices, a mover and jobs on real threads, each with a part of the buffer of its own: every part holds what was put there.</summary>
    [Fact]
    public virtual void F7_devices_jobs_and_moves_at_once_lose_nothing() => OnStage(
        stage =>
        {
            ContractWorld world = stage.World;
            const int Part = 16 * 4096;
            const int Rounds = 150;
            PuppetImporter[] importers = [stage.Import("one"), stage.Import("two", tokens: Fenced)];
            int working = importers.Length + (Can(ExporterCapabilities.Jobs) ? 1 : 0);
            int moves = 0;
            long done = 0;
            void Transfer(int number)
            {
                PuppetImporter importer = importers[number];
                int start = number * Part;
                try
                {
                    for (int i = 0; i < Rounds || (Can(ExporterCapabilities.Moves) && Volatile.Read(ref moves) < 10); i++)
                    {
                        byte[] bytes = Bytes((i * 2) + number, 8192);
                        int at = start + (i % 14 * 4096);
                        bytes.CopyTo(importer.Device.Store);
                        importer.Read(at, bytes.Length);
                        importer.Run("F7", "a request beside moves and jobs");
                        importer.Write(at, bytes.Length, 65536);
                        importer.Run("F7", "a request beside moves and jobs");
                        Interlocked.Increment(ref done);
                        stage.CheckBytes(bytes, importer.Device.Store.Slice(65536, bytes.Length), "F7", $"the bytes that {importer.Device.Name} has put at {at} and finds there, in round {i},");
                    }
                }
                finally
                {
                    Interlocked.Decrement(ref working);
                }
            }

            void Move()
            {
                try
                {
                    while (Volatile.Read(ref working) > 0)
                    {
                        stage.Target.Move();
                        Interlocked.Increment(ref moves);
                    }
                }
                finally
                {
                    Volatile.Write(ref moves, int.MaxValue);
                }
            }

            void Jobs()
            {
                try
                {
                    for (int i = 0; i < Rounds; i++)
                    {
                        byte value = (byte)i;
                        Submit(stage, () => stage.Compute.Fill(stage.Buffer, 2 * Part, Part, value));
                        IComputeJob hash = Submit(stage, () => stage.Compute.Hash(stage.Buffer, 2 * Part, Part));
                        Interlocked.Increment(ref done);
                        byte[] expected = new byte[Part];
                        expected.AsSpan().Fill(value);
                        world.Check(Done(stage, hash).Span.SequenceEqual(SHA256.HashData(expected)), "T12", $"a job did not find what the job before it had written, in round {i}.");
                    }
                }
                finally
                {
                    Interlocked.Decrement(ref working);
                }
            }

            var actors = new List<(string, Action)> { ("one", () => Transfer(0)), ("two", () => Transfer(1)) };
            if (Can(ExporterCapabilities.Moves))
                actors.Add(("mover", Move));
            if (Can(ExporterCapabilities.Jobs))
                actors.Add(("jobs", Jobs));
            IActor[] started = [.. actors.Select(a => world.Actors.Start(a.Item1, a.Item2))];
            world.JoinAll(started, () => Interlocked.Read(ref done), "F7", "devices, jobs and moves at once do not come to their end.");
            stage.Settle();
        },
        3 * 16 * 4096);
}
