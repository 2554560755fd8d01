using DmaBufIo.Diagnostics;
using DmaBufIo.Io;

namespace DmaBufIo.Tests.SyncTests;

/// <summary>Alone: the process counts its barriers for all threads together.</summary>
[CollectionDefinition(nameof(VisitBarrierTests), DisableParallelization = true)]
[Collection(nameof(VisitBarrierTests))]
public sealed class VisitBarrierTests
{
    // The stress of IoContextTests meets the window of a few nanoseconds now and then; this says for certain that the fence that closes it is there.
    [Fact]
    public void T14_a_visit_of_a_context_that_another_thread_has_worked_passes_a_barrier_before_it_looks_whether_the_owner_is_inside()
    {
        using var context = new IoContext("visited");
        using var isInside = new ManualResetEventSlim();
        using var mayLeave = new ManualResetEventSlim();
        Actor owner = Actor.Start("owner", () =>
        {
            context.Enter();
            isInside.Set();
            mayLeave.Wait(TestContext.Current.CancellationToken);
            context.Leave();
        });
        isInside.Wait(TestContext.Current.CancellationToken);
        long before = Counters.Barriers.Value;
        Actor visitor = Actor.Start("visitor", () => context.Visit(static () => { }));
        visitor.UntilItWaitsFor("batch of context visited");
        Assert.True(Counters.Barriers.Value > before, "the visitor looked at the owner without a barrier after it had announced itself");
        mayLeave.Set();
        owner.Join();
        visitor.Join();
    }
}
