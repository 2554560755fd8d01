using DmaBufIo.DmaBufs;
using DmaBufIo.Io;
using DmaBufIo.Sync;
using Mono.Cecil;

namespace DmaBufIo.Tests.SyncTests;

/// <summary>
/// A killer that asks the owners of contexts before it interrupts processors. The store of a count and the load of the kill may pass each other in the processor; here only
/// answers keep them apart. Stores to memory that is in no cache make the store late, as in <see cref="RequestGateTests"/>.
/// </summary>
public sealed class ContextFenceTests
{
    private const int Rounds = 10_000;
    private readonly byte[] _cold = new byte[32 << 20];

    [Fact]
    public void T6_an_owner_that_answers_a_killer_has_either_been_counted_or_is_refused()
    {
        using var context = new IoContext("answers");
        RequestGate[] gates = Gates();
        int current = 0;
        int inside = 0;
        Actor owner = Actor.Start("owner", () => inside = UseUntilTheEnd(context, gates, ref current));
        for (int i = 0; i < Rounds; i++)
        {
            Thread.SpinWait(i % 24);
            Kill(gates[i]);
            Actor.Until(() => gates[i].IsDrained, "the gate drains");
            Volatile.Write(ref current, i + 1);
        }

        owner.Join();
        Assert.Equal(0, inside);
    }

    [Fact]
    public void T6_so_have_threads_that_hand_a_context_to_each_other()
    {
        using var context = new IoContext("handed on");
        RequestGate[] gates = Gates();
        int current = 0;
        int inside = 0;
        int turn = 0;
        Actor[] owners = [.. Enumerable.Range(0, 2).Select(me => Actor.Start("owner", () =>
        {
            while (Volatile.Read(ref current) < Rounds)
            {
                var spin = default(SpinWait);
                while (Volatile.Read(ref turn) != me && Volatile.Read(ref current) < Rounds)
                    spin.SpinOnce(-1);
                if (Volatile.Read(ref turn) != me)
                    return;
                inside += Use(context, gates, Volatile.Read(ref current));
                Volatile.Write(ref turn, 1 - me);
            }
        }))];
        for (int i = 0; i < Rounds; i++)
        {
            Thread.SpinWait(i % 24);
            Kill(gates[i]);
            Actor.Until(() => gates[i].IsDrained, "the gate drains");
            Volatile.Write(ref current, i + 1);
        }

        foreach (Actor owner in owners)
            owner.Join();
        Assert.Equal(0, inside);
    }

    [Fact]
    public void T6_and_so_has_an_owner_who_takes_the_context_from_the_killer()
    {
        using var context = new IoContext("taken");
        RequestGate[] gates = Gates();
        int go = -1;
        int done = -1;
        int inside = 0;
        Actor owner = Actor.Start("owner", () =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                var spin = default(SpinWait);
                while (Volatile.Read(ref go) < i)
                    spin.SpinOnce(-1);
                inside += Use(context, gates, i);
                Volatile.Write(ref done, i);
            }
        });
        for (int i = 0; i < Rounds; i++)
        {
            // The killer's own: it needs nobody's answer, until somebody else enters at this very moment.
            context.Enter();
            context.Leave();
            Volatile.Write(ref go, i);
            Thread.SpinWait(i % 24);
            Kill(gates[i]);
            var spin = default(SpinWait);
            while (Volatile.Read(ref done) < i && !owner.IsDone)
                spin.SpinOnce(-1);
            Assert.True(gates[i].IsDrained);
        }

        owner.Join();
        Assert.Equal(0, inside);
    }

    /// <summary>What the test above would need to show it: all stores of the new owner late for as long as a kill takes, which is longer than processors hold them back.</summary>
    [Theory]
    [InlineData("TakeOver")]
    [InlineData("IsOwnedByCaller")]
    public void T6_a_context_changes_hands_under_its_lock(string method)
    {
        using AssemblyDefinition assembly = AssemblyDefinition.ReadAssembly(typeof(IoContext).Assembly.Location);
        MethodDefinition body = assembly.MainModule.GetType(typeof(IoContext).FullName).Methods.Single(m => m.Name == method);
        int locked = body.Body.Instructions.ToList().FindIndex(static i => i.Operand is MethodReference { Name: "EnterScope" });
        int owner = body.Body.Instructions.ToList().FindIndex(static i => i.Operand is FieldReference { Name: "_owner" });
        Assert.InRange(locked, 0, owner);
    }

    [Fact]
    public void T14_a_visitor_that_leaves_a_gate_while_it_is_killed_is_counted()
    {
        using var context = new IoContext("visited");
        RequestGate[] gates = Gates();
        int go = -1;
        context.Enter();
        context.Leave();
        Actor visitor = Actor.Start("visitor", () =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                var spin = default(SpinWait);
                while (Volatile.Read(ref go) < i)
                    spin.SpinOnce(-1);
                context.Visit(() =>
                {
                    Chill(i);
                    gates[i].Exit(context.Slot);
                });
            }
        });
        for (int i = 0; i < Rounds; i++)
        {
            context.Enter();
            Assert.True(gates[i].TryEnter(context.Slot));
            context.Leave();
            Volatile.Write(ref go, i);
            Thread.SpinWait(i % 128);

            // The context is the killer's own, but it does not speak for the visitor.
            Kill(gates[i]);
            Actor.Until(() => gates[i].IsDrained, "the last one to leave, who is a visitor, is noticed");
        }

        visitor.Join();
    }

    private static RequestGate[] Gates() => [.. Enumerable.Range(0, Rounds).Select(static _ => new RequestGate(ContextTable.Slots, static () => { }))];

    private static void Kill(RequestGate gate)
    {
        gate.BeginKill();
        using var batch = new InvalidationBatch();
        batch.AddKilled(gate);
        batch.Complete();
    }

    private int UseUntilTheEnd(IoContext context, RequestGate[] gates, ref int current)
    {
        int inside = 0;
        while (Volatile.Read(ref current) is var index && index < gates.Length)
            inside += Use(context, gates, index);
        return inside;
    }

    /// <summary>A batch with one request.</summary>
    /// <returns>1 when it was inside after the gate had drained.</returns>
    private int Use(IoContext context, RequestGate[] gates, int index)
    {
        if (index >= gates.Length)
            return 0;
        RequestGate gate = gates[index];
        int inside = 0;
        _ = gate.IsKilled;
        Chill(index);
        context.Enter();
        if (gate.TryEnter(context.Slot))
        {
            for (int look = 0; look < 40 && inside == 0; look++)
                inside = gate.IsDrained ? 1 : 0;
            gate.Exit(context.Slot);
        }

        context.Leave();
        return inside;
    }

    private void Chill(int round)
    {
        for (int line = 0; line < 32; line++)
            _cold[(((round * 32) + line) * 4160) & (_cold.Length - 1)] = 1;
    }
}
