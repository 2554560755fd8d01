using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Puppets;
using DmaBufIo.Tokens;

namespace DmaBufIo.ContractTests;

/// <content>The token operation belongs to the device (B6), and a device on others gives them parts of the same backing (B2).</content>
public abstract partial class BlockDeviceContract
{
    /// <summary>A device that lists the capability has the token operation, and its driver attaches the device that does the DMA.</summary>
    [Fact]
    public virtual void B6_the_device_has_the_token_operation() => OnStage(stage =>
    {
        SkipUnless(BlockDeviceCapabilities.Tokens);
        foreach (DmaDirection direction in new[] { DmaDirection.ToDevice, DmaDirection.FromDevice, DmaDirection.Bidirectional })
        {
            TokenDriver? driver = stage.World.Expect("B6", "When it was asked for the token operation", () => stage.Device.CreateToken(stage.Buffer.Buffer, direction));
            stage.World.Check(driver is not null, "B6", $"CreateToken answered null for a buffer registered {direction}, although the fixture lists the capability Tokens.");
        }

        // Registered once per file, twice at once.
        DmaBufToken second = stage.Register(stage.Buffer);
        BlockLane lane = stage.Lane();
        int size = stage.BioOf(4096);
        lane.Do("B6", stage.Plan(BioBacking.Map, BioOperation.Write, 0, 0, size), new BioPlan(BioOperation.Read, (stage.Device.Capacity - size) >> 9, 65536, size, null, second));
    });

    /// <summary>Every part that a member is given has the operation and the kind of backing of the whole, and the data of all members together is that of the whole.</summary>
    [Fact]
    public virtual void B2_parts_have_the_backing_of_the_whole() => OnPuppets((stage, members) =>
    {
        BlockLane lane = stage.Lane();
        int largest = Math.Min(stage.LargestBio, 300 << 10) / stage.Block * stage.Block;
        foreach (BioBacking kind in stage.Kinds)
        {
            foreach ((long place, int size) in new[] { (0L, stage.BioOf(4096)), ((128L << 10) - stage.Block, stage.BioOf(12288)), (stage.Blocks(65536 + 4096), largest) })
            {
                byte[] data = Bytes(size + (int)place, size);
                using (var parts = new PartLog(members, Fixture.ReservedOnMembers))
                {
                    stage.Write(lane, kind, place, 4096 + stage.Limits.DmaAlignment, data, "B2");
                    CheckParts(stage, parts, kind, BioOperation.Write, size);
                }

                using (var parts = new PartLog(members, Fixture.ReservedOnMembers))
                {
                    stage.CheckRead(lane, kind, place, 8192 - stage.Limits.DmaAlignment, data, "B2");
                    CheckParts(stage, parts, kind, BioOperation.Read, size);
                }

                // The other kind sees the same: what was sent with the wrong backing would not be there.
                stage.CheckRead(lane, stage.Kinds[0], place, 65536, data, "B2");
            }
        }
    });

    /// <summary>A flush of the whole reaches every member as a flush.</summary>
    [Fact]
    public virtual void B2_a_flush_reaches_every_member() => OnPuppets((stage, members) =>
    {
        BlockLane lane = stage.Lane();
        lane.Do("B2", stage.Plan(BioBacking.Pages, BioOperation.Write, 0, 0, stage.BioOf(4096)));
        using var parts = new PartLog(members, Fixture.ReservedOnMembers);
        lane.Do("B2", BioPlan.Flush);
        for (int i = 0; i < members.Length; i++)
        {
            stage.World.Check(
                parts.Of(i).Any(static b => b.Operation == BioOperation.Flush),
                "B2",
                $"a flush of the whole ended well, and member {i} was not flushed; it was given {parts.Of(i).Length} bios.");
        }
    });

    /// <summary>A member's room runs out and comes back, members end in any order: each bio of the whole ends once, with its data.</summary>
    [Fact]
    public virtual void B2_parts_that_wait_and_end_in_any_order_make_the_whole() => OnPuppets((stage, members) =>
    {
        const int Count = 24;
        BlockLane lane = stage.Lane(Count);
        const int Together = 8; // more than members have room for, also where a bio is one part
        const long Slot = 256 << 10;
        int size = stage.BioOf(100 << 10);
        byte[] data = Bytes(5, size);
        stage.Write(lane, BioBacking.Pages, 0, 0, data, "B2");
        foreach (PuppetBlockDevice member in members)
            member.QueueDepth = 3;
        var random = new Random(7);
        IActor owner = stage.World.Actors.Start("owner", () =>
        {
            for (int i = 0; i < Count; i++)
            {
                BioBacking kind = stage.Kinds[i % stage.Kinds.Length];
                BioPlan[] reads = [.. Enumerable.Range(1, Together).Select(k => stage.Plan(kind, BioOperation.Read, 0, k * Slot, size))];
                foreach (BioPlan read in reads)
                    stage.Put(kind, read.Offset, new byte[size]);
                lane.Do("B2", reads);
                foreach (BioPlan read in reads)
                    stage.CheckSame(data, stage.Get(kind, read.Offset, size), "B2", "what a read with members of little room has brought");
            }
        });
        foreach (PuppetBlockDevice member in members)
            member.Hold = true;
        while (!owner.HasEnded)
        {
            members[random.Next(members.Length)].Finish(random.Next(1, 4));
            Thread.Yield();
        }

        foreach (PuppetBlockDevice member in members)
        {
            member.Hold = false;
            member.Finish();
        }

        owner.Join();
        lane.CheckEndedOnce();
        foreach (PuppetBlockDevice member in members)
            member.QueueDepth = int.MaxValue;
    });

    /// <summary>A registration with the whole is one with each member, and ends with it.</summary>
    [Fact]
    public virtual void B6_a_stack_forwards_the_token_operation_to_its_members() => OnPuppets((stage, members) =>
    {
        SkipUnless(BlockDeviceCapabilities.Tokens);
        // A device may have memory of its own registered with its members.
        int[] tokens = [.. members.Select(static m => m.LiveTokens)];
        int[] maps = [.. members.Select(static m => m.LiveMaps)];
        DmaBufToken token = stage.Token;
        for (int i = 0; i < members.Length; i++)
            stage.World.Check(members[i].LiveTokens == tokens[i] + 1, "B6", $"a buffer was registered with the whole, and member {i} has {members[i].LiveTokens - tokens[i]} registrations of it.");
        BlockLane lane = stage.Lane();
        lane.Do("B6", stage.Plan(BioBacking.Map, BioOperation.Read, 0, 0, stage.BioOf(4096)));
        for (int i = 0; i < members.Length; i++)
            stage.World.Check(members[i].LiveMaps == maps[i] + 1, "B6", $"the whole has a map of the buffer, and member {i} has {members[i].LiveMaps - maps[i]}.");
        token.Release();
        stage.World.Eventually(() => members.Index().All(m => m.Item.LiveTokens == tokens[m.Index] && m.Item.LiveMaps == maps[m.Index]), "B6", "the registration with the whole was removed, and members still have theirs.");
    });

    /// <summary>A member without the token operation: the whole refuses the buffer, and the other members keep nothing.</summary>
    [Fact]
    public virtual void B6_a_stack_on_a_member_without_the_operation_refuses_and_leaves_nothing() => OnPuppets((stage, members) =>
    {
        SkipUnless(BlockDeviceCapabilities.Tokens);
        int[] tokens = [.. members.Select(static m => m.LiveTokens)];
        members[^1].TakesTokens = false;
        Errno? refused = null;
        try
        {
            DmaBufToken.Create(stage, stage.Buffer.Buffer, DmaDirection.Bidirectional, TokenOptions.Default, stage.Device.CreateToken).Release();
        }
        catch (DmaBufIoException e)
        {
            refused = e.Errno;
        }

        stage.World.Check(refused == Errno.EOPNOTSUPP, "B6", $"a buffer was registered with a set whose last member cannot take it, and the answer was {refused?.ToString() ?? "Ok"}; it is EOPNOTSUPP.");
        stage.World.Check(members.Index().All(m => m.Item.LiveTokens == tokens[m.Index]), "B6", "a registration that was refused is still held by a member.");
        members[^1].TakesTokens = true;
    });

    private static void CheckParts(BlockDeviceStage stage, PartLog parts, BioBacking kind, BioOperation operation, long size)
    {
        Bio[] mapped = [.. parts.All.Where(static b => b.Backing == BioBacking.Map)];
        if (kind == BioBacking.Pages)
        {
            stage.World.Check(mapped.Length == 0, "B2", $"a {operation} backed by pages became {mapped.Length} parts backed by a map.");
            return;
        }

        stage.World.Check(mapped.All(b => b.Operation == operation), "B2", $"a {operation} became a part that is a {mapped.FirstOrDefault(b => b.Operation != operation).Operation}.");
        long sum = mapped.Sum(static b => b.Size);
        stage.World.Check(sum > 0 && sum % size == 0, "B2", $"a {operation} of {size} bytes backed by a map became {mapped.Length} parts backed by a map, of {sum} bytes in all.");
    }

    private void OnPuppets(Action<BlockDeviceStage, PuppetBlockDevice[]> fact)
    {
        SkipUnless(BlockDeviceCapabilities.Stacked);
        string[] names = [.. Enumerable.Range(0, Fixture.MemberCount).Select(static i => $"m{i}")];
        OnStage(
            world =>
            {
                OpenedDevice opened = Fixture.OpenOver(world, [.. names.Select(static n => $"puppet:{n},size=4M")]);
                return opened;
            },
            stage =>
            {
                WaitInSync(stage.World, stage.Opened.Root);
                fact(stage, [.. names.Select(n => Puppets[n])]);
            });
    }

    // Copies that are made at the beginning are parts, too.
    private static void WaitInSync(ContractWorld world, DeviceNode node)
    {
        foreach (IRedundantDevice redundant in node.BlockDevices.OfType<IRedundantDevice>())
            world.Eventually(() => redundant.IsInSync, "N8", "a device of several copies has not brought them in step.");
        foreach (DeviceNode member in node.Members)
            WaitInSync(world, member);
    }

    /// <summary>What members are given, as long as it is not disposed.</summary>
    private sealed class PartLog : IDisposable
    {
        private readonly PuppetBlockDevice[] _members;
        private readonly List<Bio>[] _parts;

        internal PartLog(PuppetBlockDevice[] members, long reserved)
        {
            _members = members;
            _parts = [.. members.Select(static _ => new List<Bio>())];
            for (int i = 0; i < members.Length; i++)
            {
                List<Bio> parts = _parts[i];
                long end = members[i].Capacity - reserved;
                members[i].OnSubmit = bio =>
                {
                    if (bio.Operation != BioOperation.Flush && bio.Sector << 9 >= end)
                        return;
                    lock (parts)
                        parts.Add(bio);
                };
            }
        }

        internal IEnumerable<Bio> All => Enumerable.Range(0, _parts.Length).SelectMany(Of);

        internal Bio[] Of(int member)
        {
            lock (_parts[member])
                return [.. _parts[member]];
        }

        public void Dispose()
        {
            foreach (PuppetBlockDevice member in _members)
                member.OnSubmit = null;
        }
    }
}
