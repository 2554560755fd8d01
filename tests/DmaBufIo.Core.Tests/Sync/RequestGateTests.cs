using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Sync;

namespace DmaBufIo.Tests.SyncTests;

public sealed class RequestGateTests
{
    [Fact]
    public void T6_references_are_counted_per_context_and_in_sum()
    {
        var gate = new RequestGate(2, static () => Assert.Fail("a live gate does not drain"));
        Assert.True(gate.TryEnter(0) && gate.TryEnter(0) && gate.TryEnter(1) && gate.TryEnter(9) && gate.TryEnter(8));
        Assert.Equal((5L, 2L, 1L, 2L, 2L), (gate.Users, gate.UsersIn(0), gate.UsersIn(1), gate.UsersIn(8), gate.UsersIn(9)));
        gate.Exit(9);
        gate.Exit(0);
        Assert.Equal((3L, false, false, 0L), (gate.Users, gate.IsKilled, gate.IsDrained, gate.KilledAt));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    public void T7_a_killed_gate_lets_nobody_in_and_drains_when_the_last_one_leaves(int slot)
    {
        int drained = 0;
        var gate = new RequestGate(2, () => drained++);
        Assert.True(gate.TryEnter(slot) && gate.TryEnter(1));
        Assert.Equal(2, Kill(gate));
        Assert.False(gate.TryEnter(slot) || gate.TryEnter(1));
        gate.Exit(1);
        Assert.Equal((0, false), (drained, gate.IsDrained));
        gate.Exit(slot);
        Assert.Equal((1, true), (drained, gate.IsDrained));
        Assert.False(gate.TryEnter(slot));
        Assert.Equal((1, 0L), (drained, gate.Users));
        Assert.NotEqual(0, gate.KilledAt);
    }

    [Fact]
    public void A_gate_without_users_drains_when_it_is_killed()
    {
        int drained = 0;
        var gate = new RequestGate(1, () => drained++);
        Assert.Equal(0, Kill(gate));
        Assert.Equal((1, true), (drained, gate.IsDrained));
        Assert.Equal(Errno.Ok, GateDrain.Drain(gate, new WaitReason("drained"), TestContext.Current.CancellationToken));
    }

    [Fact]
    public void Before_the_barrier_a_count_of_zero_proves_nothing()
    {
        int drained = 0;
        var gate = new RequestGate(2, () => drained++);
        Assert.True(gate.TryEnter(0));
        gate.BeginKill();

        // The last one leaves between the two halves of the kill, a failed attempt comes and goes: only the second half may say that it
        // has drained.
        gate.Exit(0);
        Assert.False(gate.TryEnter(1));
        Assert.Equal((0, false, true), (drained, gate.IsDrained, gate.IsKilled));
        RequestGate.Barrier();
        Assert.Equal(0, gate.FinishKill());
        Assert.Equal((1, true), (drained, gate.IsDrained));
    }

    [Fact]
    public void A_generated_sequence_of_entering_leaving_and_killing_agrees_with_a_plain_count()
    {
        for (int seed = 0; seed < 2000; seed++)
        {
            var random = new Random(seed);
            int drained = 0;
            var gate = new RequestGate(3, () => drained++);
            int[] model = new int[5];
            int phase = 0;
            for (int step = 0; step < 60; step++)
            {
                int slot = random.Next(model.Length);
                switch (random.Next(10))
                {
                    case < 5:
                        bool entered = gate.TryEnter(slot);
                        Assert.Equal(phase == 0, entered);
                        model[slot] += entered ? 1 : 0;
                        break;
                    case < 9 when model[slot] > 0:
                        gate.Exit(slot);
                        model[slot]--;
                        break;
                    case 9 when step > 20 && phase == 0:
                        gate.BeginKill();
                        phase = 1;
                        break;
                    case 9 when phase == 1:
                        RequestGate.Barrier();
                        Assert.Equal(model.Sum(), gate.FinishKill());
                        phase = 2;
                        break;
                }

                int expected = phase == 2 && model.Sum() == 0 ? 1 : 0;
                Assert.True(drained == expected && gate.IsDrained == (expected == 1) && gate.Users == model.Sum(),
                    $"seed {seed}, step {step}: drained {drained}, users {gate.Users} of {model.Sum()}");
            }
        }
    }

    [Fact]
    public void T6_T7_threads_that_enter_and_leave_while_it_is_killed_are_never_inside_after_it_has_drained()
    {
        const int Threads = 4;
        const int Gates = 500;
        var gates = new RequestGate[Gates];
        int[] announced = new int[Gates];
        for (int i = 0; i < Gates; i++)
        {
            int index = i;
            // The last thread shares the slow count.
            gates[i] = new RequestGate(Threads - 1, () => Interlocked.Increment(ref announced[index]));
        }

        int current = 0;
        int broken = 0;
        long entries = 0;
        Actor[] users = [.. Enumerable.Range(0, Threads).Select(slot => Actor.Start("user", () =>
        {
            for (int own = 0; ;)
            {
                int index = Volatile.Read(ref current);
                if (index >= Gates)
                    return;
                if (!gates[index].TryEnter(slot))
                {
                    Thread.Yield();
                    continue;
                }

                // Inside: the killer must not think that everybody has left.
                if (gates[index].IsDrained)
                    Interlocked.Increment(ref broken);
                Interlocked.Increment(ref entries);
                if (gates[index].IsDrained)
                    Interlocked.Increment(ref broken);
                gates[index].Exit(slot);

                // On few cores the killer would wait for a time slice at every gate.
                if (++own % 64 == 0)
                    Thread.Yield();
            }
        }))];
        for (int i = 0; i < Gates; i++)
        {
            // Some entries before each kill, so that it hits a gate in use.
            long before = Interlocked.Read(ref entries);
            Actor.Until(() => Interlocked.Read(ref entries) >= before + 4, "the gate is used");
            Kill(gates[i]);
            Assert.Equal(Errno.Ok, GateDrain.Drain(gates[i], new WaitReason("gate"), TestContext.Current.CancellationToken));
            Volatile.Write(ref current, i + 1);
        }

        foreach (Actor user in users)
            user.Join();
        Assert.Equal(0, broken);
        Assert.All(announced, static a => Assert.Equal(1, a));
        Assert.All(gates, static g => Assert.Equal(0, g.Users));
    }

    [Fact]
    public void T6_an_entry_at_the_very_moment_of_a_kill_is_either_refused_or_waited_for()
    {
        const int Rounds = 10_000;
        byte[] cold = new byte[32 << 20];
        var gates = new RequestGate[Rounds];
        for (int i = 0; i < Rounds; i++)
            gates[i] = new RequestGate(1, static () => { });
        int go = -1;
        int done = -1;
        int broken = 0;

        // The store of the count and the load of the flag may pass each other in the processor; only the killer's barrier keeps them apart.
        // The store is made late by stores to memory that is in no cache, which have to be done before it; the flag is at hand.
        Actor user = Actor.Start("user", () =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                RequestGate gate = gates[i];
                _ = gate.IsKilled;
                var spin = default(SpinWait);
                while (Volatile.Read(ref go) < i)
                    spin.SpinOnce(-1);
                for (int line = 0; line < 32; line++)
                    cold[(((i * 32) + line) * 4160) & (cold.Length - 1)] = 1;
                if (gate.TryEnter(0))
                {
                    for (int look = 0; look < 40; look++)
                    {
                        if (gate.IsDrained)
                        {
                            broken++;
                            break;
                        }
                    }

                    gate.Exit(0);
                }

                Volatile.Write(ref done, i);
            }
        });
        for (int i = 0; i < Rounds; i++)
        {
            RequestGate gate = gates[i];
            _ = gate.Users;
            Volatile.Write(ref go, i);
            Thread.SpinWait(i % 24);
            Kill(gate);
            var spin = default(SpinWait);
            while (Volatile.Read(ref done) < i && !user.IsDone)
                spin.SpinOnce(-1);
        }

        user.Join();
        Assert.Equal(0, broken);
    }

    [Fact]
    public void T6_of_several_who_leave_a_killed_gate_at_the_same_moment_one_notices_that_nobody_is_left()
    {
        const int Rounds = 20_000;
        byte[] cold = new byte[32 << 20];
        int drained = 0;
        RequestGate[] gates = [.. Enumerable.Range(0, Rounds).Select(_ => new RequestGate(2, () => Interlocked.Increment(ref drained)))];
        int arrived = 0;

        // Each stores its own count and loads the other's: without a fence between, both may see the other inside.
        Actor[] users = [.. Enumerable.Range(0, 2).Select(slot => Actor.Start("user", () =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                RequestGate gate = gates[i];
                Assert.True(gate.TryEnter(slot));
                Meet(ref arrived, (4 * i) + 2);
                if (slot == 0)
                    Kill(gate);
                Meet(ref arrived, (4 * i) + 4);
                for (int line = 0; line < 16; line++)
                    cold[(((i * 32) + (slot * 16) + line) * 4160) & (cold.Length - 1)] = 1;
                _ = gate.Users;
                gate.Exit(slot);
            }
        }))];
        foreach (Actor user in users)
            user.Join();
        Assert.Equal(Rounds, drained);
    }

    [Fact]
    public void T17_one_barrier_serves_all_gates_whose_kill_has_begun()
    {
        int drained = 0;
        RequestGate[] gates = [.. Enumerable.Range(0, 5).Select(_ => new RequestGate(1, () => drained++))];
        foreach (RequestGate gate in gates)
        {
            Assert.True(gate.TryEnter(0));
            gate.BeginKill();
        }

        RequestGate.Barrier();
        Assert.Equal(5, gates.Sum(static g => g.FinishKill()));
        foreach (RequestGate gate in gates)
            gate.Exit(0);
        Assert.Equal(5, drained);
    }

    private static void Meet(ref int arrived, int all)
    {
        Interlocked.Increment(ref arrived);
        var spin = default(SpinWait);
        while (Volatile.Read(ref arrived) < all)
            spin.SpinOnce(-1);
    }

    private static long Kill(RequestGate gate)
    {
        gate.BeginKill();
        RequestGate.Barrier();
        return gate.FinishKill();
    }
}
