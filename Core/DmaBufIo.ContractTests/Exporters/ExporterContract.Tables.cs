using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Memory;
using DmaBufIo.Models.Puppets;

namespace DmaBufIo.ContractTests;

/// <content>Tables: what a device is given, and what is left when it gives that back.</content>
public abstract partial class ExporterContract
{
    /// <summary>A table covers the buffer from its first to its last byte, each device has one of its own, and the bytes lie in order.</summary>
    [Fact]
    public virtual void N1_a_table_covers_the_buffer_exactly_and_in_order()
    {
        foreach (long pages in new[] { 1, 37, 1030 })
        {
            OnStage(
                stage =>
                {
                    byte[] bytes = Bytes((int)pages, (int)stage.Buffer.Size);
                    stage.Fill(bytes);
                    foreach (RawDevice device in new[] { stage.Attach("one"), stage.Attach("two") })
                    {
                        foreach (DmaDirection direction in new[] { DmaDirection.ToDevice, DmaDirection.Bidirectional })
                        {
                            SgTable table = stage.World.Expect("N1", "when a buffer was mapped for a device", () => device.Map(direction));
                            CheckTable(stage, device, table);
                            stage.CheckBytes(bytes, device.Read(table, 0, bytes.Length), "N1", $"the bytes that {device.Name} finds through its table");
                        }
                    }
                },
                pages * MemoryRegion.PageSize);
        }
    }

    /// <summary>What a device writes is what the CPU finds, where the exporter says that the CPU finds it, and the other way round.</summary>
    [Fact]
    public virtual void N1_the_cpu_and_a_device_see_one_memory() => OnStage(
        stage =>
        {
            byte[] expected = Bytes(1, s_size);
            stage.Put(expected);
            RawDevice device = stage.Attach();
            SgTable table = device.Map();
            stage.CheckBytes(expected, device.Read(table, 0, s_size), "N1", "what the CPU has written through Describe and a device reads");
            foreach ((int offset, int length) in new[] { (0, 1), (4093, 7), (s_size - 5, 5), (8192, 20000) })
            {
                byte[] written = Bytes(offset, length);
                written.CopyTo(expected, offset);
                device.Write(table, offset, written);
                stage.CheckBytes(expected, stage.Contents(), "N1", $"what a device has written at {offset} and the CPU finds through Describe");
            }
        },
        needs: ExporterCapabilities.HostMemory);

    /// <summary>A device may do what it asked for, and nothing else.</summary>
    [Fact]
    public virtual void T1_a_device_is_allowed_the_direction_that_it_asked_for() => OnStage(stage =>
    {
        stage.World.ExpectFaults();
        RawDevice device = stage.Attach();
        foreach (DmaDirection direction in new[] { DmaDirection.ToDevice, DmaDirection.FromDevice, DmaDirection.Bidirectional })
        {
            SgTable table = device.Map(direction);
            stage.World.Check(table.Direction == direction, "T1", $"a device asked for {direction} and was given a table for {table.Direction}.");
            foreach (DeviceRange range in table.Ranges)
                stage.World.Check(range.Direction == direction, "T1", $"a device asked for {direction} and was given a mapping for {range.Direction}.");
            if (direction == DmaDirection.ToDevice)
            {
                Errno status = device.Touch(table.Ranges[0].Address, [1], isWrite: true);
                stage.World.Check(status != Errno.Ok, "T1", "a device that asked to read the buffer has written it.");
            }

            device.Unmap(table);
        }
    });

    /// <summary>Unmapping ends the mappings of that table, all of them, and no others.</summary>
    [Fact]
    public virtual void T8_unmapping_ends_exactly_the_mappings_of_the_table() => OnStage(stage =>
    {
        RawDevice one = stage.Attach("one");
        RawDevice two = stage.Attach("two");
        var tables = new List<(RawDevice Device, SgTable Table)>
        {
            (one, one.Map(DmaDirection.ToDevice)),
            (two, two.Map(DmaDirection.ToDevice)),
            (one, one.Map(DmaDirection.Bidirectional)),
            (two, two.Map(DmaDirection.FromDevice)),
        };
        CheckLive(stage, tables, "after four tables were made");
        for (int i = 0; i < 4; i++)
        {
            int next = i == 1 ? 2 : 0;
            (RawDevice device, SgTable table) = tables[next];
            tables.RemoveAt(next);
            stage.World.Expect("T8", "when a table was given back", () =>
            {
                device.Unmap(table);
                return true;
            });
            CheckLive(stage, tables, $"after the table of {device.Name} for {table.Direction} was given back");
        }
    });

    /// <summary>A move in between changes nothing about that: the old table ends the old mappings.</summary>
    [Fact]
    public virtual void T8_a_table_of_the_old_place_ends_the_mappings_of_the_old_place() => OnStage(
        stage =>
        {
            RawDevice device = stage.Attach();
            var tables = new List<(RawDevice Device, SgTable Table)> { (device, device.Map()) };
            for (int i = 0; i < 3; i++)
            {
                stage.Move();
                tables.Add((device, device.Map()));
                CheckLive(stage, tables, "after a move, with the table of the old place not given back yet");
                SgTable old = tables[0].Table;
                tables.RemoveAt(0);
                stage.World.Expect("T8", "when the table of the old place was given back", () =>
                {
                    device.Unmap(old);
                    return true;
                });
                CheckLive(stage, tables, "after the table of the old place was given back");
            }
        },
        needs: ExporterCapabilities.Moves);

    /// <summary>When a mapping fails, wherever in the buffer, nothing of the table stays mapped, and the next attempt succeeds.</summary>
    [Fact]
    public virtual void T12_a_map_that_fails_half_way_leaves_nothing_mapped() => OnStage(stage =>
    {
        byte[] bytes = Bytes(3, s_size);
        stage.Fill(bytes);
        RawDevice device = stage.Attach();
        SgTable whole = device.Map();
        int ranges = whole.Ranges.Count;
        device.Unmap(whole);
        for (int failing = 0; failing < ranges; failing++)
        {
            FailMapping(stage, device.Name, failing);
            Exception? thrown = Record.Exception(() => device.Unmap(device.Map()));
            stage.World.Fabric.OnMap = null;
            stage.World.Check(
                thrown is null or DmaBufIoException { Errno: Errno.ENOMEM },
                "T12",
                $"the device's address space had no room for mapping {failing} of {ranges} (ENOMEM), and Map threw {thrown}.");
            int left = stage.MappingsOf(device.Name);
            stage.World.Check(left == 0, "T12", $"{left} mappings are left after mapping {failing} of {ranges} failed.");
            SgTable table = stage.World.Expect("T12", $"after mapping {failing} of {ranges} had failed and the next attempt was to succeed", () => device.Map());
            stage.CheckBytes(bytes, device.Read(table, 0, bytes.Length), "T12", "the bytes that the device finds after that");
            device.Unmap(table);
        }
    });

    /// <summary>The same with a driver: its request ends with the error, and the next one has a map made.</summary>
    [Fact]
    public virtual void T12_a_request_whose_map_fails_ends_and_the_next_one_succeeds() => OnStage(stage =>
    {
        PuppetImporter importer = stage.Import();
        FailMapping(stage, importer.Device.Name, 0);
        importer.Write(0, 4096);
        importer.Ring.Submit();
        Rings.RingCompletion ended = importer.Reap(1, "T12", "a request whose map could not be made")[0];
        stage.World.Fabric.OnMap = null;
        stage.World.Check(ended.Status is Errno.ENOMEM or Errno.Ok, "T12", $"the device's address space had no room (ENOMEM), and the request ended with {ended.Status}: {importer.Token.LastMapError}");
        importer.Write(0, 4096);
        importer.Run("T12", "a request after one whose map could not be made");
    });

    /// <summary>Sizes of more than 30 bits are sizes like others. The memory is touched in a few places only.</summary>
    [Fact]
    public virtual void R7_a_buffer_of_more_than_1_GiB_is_mapped_to_its_end() => OnStage(
        stage =>
        {
            long size = stage.Buffer.Size;
            RawDevice device = stage.Attach();
            SgTable table = stage.World.Expect("R7", $"when a buffer of {size} bytes was mapped", () => device.Map());
            long covered = table.Ranges.Sum(static r => r.Length);
            stage.World.Check(covered == size, "R7", $"the table of a buffer of {size} bytes covers {covered}.");
            foreach (long offset in new[] { 0, (1L << 30) - 100, 1L << 30, size - 4096 })
            {
                byte[] bytes = Bytes((int)(offset >> 12), 4096);
                device.Write(table, offset, bytes);
                if (Can(ExporterCapabilities.HostMemory))
                    stage.CheckBytes(bytes, stage.Peek(offset, bytes.Length), "R7", $"what a device has written at {offset} and the CPU finds there");
                stage.CheckBytes(bytes, device.Read(table, offset, bytes.Length), "R7", $"what a device has written at {offset} and reads again");
            }
        },
        (1L << 30) + (3L * MemoryRegion.PageSize),
        ExporterCapabilities.Large);

    private static void CheckTable(ExporterStage stage, RawDevice device, SgTable table)
    {
        long size = stage.Buffer.Size;
        long covered = table.Ranges.Sum(static r => r.Length);
        stage.World.Check(covered == size, "N1", $"the table of a buffer of {size} bytes covers {covered}.");
        stage.World.Check(table.Generation == stage.Buffer.Generation, "F6", $"a table of generation {table.Generation} was handed out when the buffer's is {stage.Buffer.Generation}.");
        foreach (DeviceRange range in table.Ranges)
        {
            stage.World.Check(range.Length > 0, "N1", "a table has an empty range.");
            stage.World.Check(range.Space.Name == device.Name, "N1", $"the table of {device.Name} has addresses of {range.Space.Name}.");
        }
    }

    private static void CheckLive(ExporterStage stage, IReadOnlyList<(RawDevice Device, SgTable Table)> tables, string when)
    {
        var wanted = tables.SelectMany(static t => t.Table.Ranges.Select(r => (t.Device.Name, r.Address))).ToHashSet();
        IReadOnlyList<PuppetMapping> live = stage.World.Fabric.Mappings;
        foreach (PuppetMapping mapping in live)
            stage.World.Check(wanted.Remove((mapping.Device, mapping.Address)), "T8", $"{when} {mapping.Device} still has the mapping at 0x{mapping.Address:x} for {mapping.Direction}.");
        foreach ((string device, ulong address) in wanted)
            throw stage.World.Broken("T8", $"{when} the mapping of {device} at 0x{address:x} was ended, although its table is in use.");
    }

    private static void FailMapping(ExporterStage stage, string device, int index)
    {
        int seen = 0;
        stage.World.Fabric.OnMap = mapping =>
        {
            if (mapping.Device == device && Interlocked.Increment(ref seen) - 1 == index)
                throw new DmaBufIoException(Errno.ENOMEM, "Contract", mapping.Device, "there is no room for another mapping", "This failure is the contract's: leave nothing mapped, and pass it on");
        };
    }
}
