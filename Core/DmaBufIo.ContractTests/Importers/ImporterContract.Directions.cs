using System.Collections.Concurrent;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <content>What the device may do with the memory (T1), and who holds the lock while it is told so (T5).</content>
public abstract partial class ImporterContract
{
    /// <summary>The device's mapping of the buffer has the direction of the registration, and no more.</summary>
    [Fact]
    public virtual void T1_the_device_may_do_what_the_registration_is_for_and_no_more()
    {
        foreach (DmaDirection direction in new[] { DmaDirection.FromDevice, DmaDirection.ToDevice, DmaDirection.Bidirectional })
        {
            var made = new ConcurrentBag<DmaDirection>();
            RunOnStage(
                world =>
                {
                    world.Situation = $"a registration for {direction}";
                    world.Fabric.OnMap = mapping =>
                    {
                        if (mapping.Purpose == "contract")
                            made.Add(mapping.Direction);
                    };
                    return new ImporterStage(world, Fixture, new StageSetup { Direction = direction });
                },
                stage =>
                {
                    int length = stage.Blocks(4096);
                    if ((direction & DmaDirection.FromDevice) != 0)
                        CheckOrEnd(stage, made, direction, () => stage.CheckRead(0, 0, Bytes(1, length), "T1"));
                    if ((direction & DmaDirection.ToDevice) != 0)
                        CheckOrEnd(stage, made, direction, () => stage.CheckWrite(0, 0, Bytes(2, length), "T1"));
                });
        }
    }

    /// <summary>A request against the direction of its registration ends with <c>EACCES</c>, and moves nothing.</summary>
    [Fact]
    public virtual void T1_a_request_against_the_direction_of_its_registration_ends_with_EACCES()
    {
        foreach (DmaDirection direction in new[] { DmaDirection.FromDevice, DmaDirection.ToDevice })
        {
            OnStage(
                new StageSetup { Direction = direction },
                stage =>
                {
                    int length = stage.Blocks(4096);
                    byte[] before = stage.Contents();
                    if (direction == DmaDirection.FromDevice)
                        stage.Write(0, 0, length);
                    else
                        stage.Read(0, 0, length);
                    Errno status = stage.Run("T1")[0].Status;
                    stage.World.Check(status == Errno.EACCES, "T1", $"the request ended with {status} in place of EACCES.");
                    stage.CheckContents(before, "T1", "after a refused request the buffer");
                },
                situation: $"a registration for {direction} and a request for the other");
        }
    }

    /// <summary>The buffer is mapped and unmapped with its reservation lock held, by the thread that holds it.</summary>
    [Fact]
    public virtual void T5_the_buffer_is_mapped_and_unmapped_with_its_lock_held()
    {
        InWorld(world =>
        {
            ReservationObject? reservation = null;
            int without = 0;
            string what = "";
            void Look(PuppetMapping mapping, string doing)
            {
                if (mapping.Purpose != "contract" || reservation is { IsHeldByCurrentThread: true })
                    return;
                what = $"{doing} {mapping.Memory.Length} bytes of the buffer for {mapping.Device}";
                Interlocked.Increment(ref without);
            }

            world.Fabric.OnMap = mapping => Look(mapping, "mapped");
            world.Fabric.OnUnmap = mapping => Look(mapping, "unmapped");
            var stage = new ImporterStage(world, Fixture, new StageSetup { Pieces = [8192, 4096], Registers = false });
            reservation = stage.Buffer.Buffer.Reservation;
            stage.Register(0);
            int length = stage.Blocks(4096);
            for (int i = 0; i < 3; i++)
            {
                world.Check(without == 0, "T5", $"the driver {what} without holding its reservation lock.");
                stage.CheckRead(0, 0, Bytes(i, length), "T5");
                stage.Move(elsewhere: true);
                Settle(stage);
            }

            world.Check(without == 0, "T5", $"the driver {what} without holding its reservation lock.");
            world.Ends("closing", stage.Close, "T10", "closing the ring and the device did not come to its end.");
            Settle(stage);
            world.Check(without == 0, "T5", $"the driver {what} without holding its reservation lock.");
        });
    }

    /// <summary>Until the device sees nothing of the buffer: what is unmapped is unmapped by workers.</summary>
    private static void Settle(ImporterStage stage) => stage.World.Eventually(
        () => !stage.World.Mappings.Any(static m => m.Purpose == "contract"),
        "T8",
        "mappings of the buffer stay although no registration needs them.");

    // The direction is what the fact is about: a transfer that fails for its sake is told as such.
    private static void CheckOrEnd(ImporterStage stage, ConcurrentBag<DmaDirection> made, DmaDirection direction, Action transfer)
    {
        BrokenRuleException? failed = null;
        try
        {
            transfer();
        }
        catch (BrokenRuleException e)
        {
            failed = e;
        }

        DmaDirection[] others = [.. made.Where(d => d != direction)];
        stage.World.Check(others.Length == 0, "T1", $"the device was given the buffer for {others.FirstOrDefault()} in place of {direction}.");
        if (failed is not null)
            throw failed;
        stage.World.Check(!made.IsEmpty, "T1", "the device was given no mapping of the buffer, and yet a request was answered.");
    }
}
