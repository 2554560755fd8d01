using DmaBufIo.Sync;

namespace DmaBufIo.Tests.SyncTests;

public sealed class WorkQueueTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void D2b_an_item_that_blocks_does_not_keep_the_next_one_waiting()
    {
        using var queue = new WorkQueue("several", 3);
        using var letGo = new ManualResetEventSlim();
        var first = new Item(_ => letGo.Wait(Actor.Limit, CancellationToken.None));
        var second = new Item(_ => letGo.Wait(Actor.Limit, CancellationToken.None));
        var third = new Item(static _ => { });
        queue.Queue(first);
        queue.Queue(second);
        queue.Queue(third);
        third.UntilRun(1);
        Assert.Equal((0, 0), (first.Runs, second.Runs));
        letGo.Set();
        Assert.True(queue.Flush(Token));
        Assert.Equal((1, 1, 1), (first.Runs, second.Runs, third.Runs));
    }

    [Fact]
    public void The_limit_of_threads_is_kept()
    {
        using var queue = new WorkQueue("one", 1);
        using var letGo = new ManualResetEventSlim();
        int threads = 0;
        int most = 0;
        Item[] items = [.. Enumerable.Range(0, 10).Select(i => new Item(_ =>
        {
            most = Math.Max(most, Interlocked.Increment(ref threads));
            if (i == 0)
                letGo.Wait(Actor.Limit, CancellationToken.None);
            Interlocked.Decrement(ref threads);
        }))];
        foreach (Item item in items)
            Assert.True(queue.Queue(item));
        Assert.All(items, static item => Assert.Equal(0, item.Runs));
        letGo.Set();
        Assert.True(queue.Flush(Token));
        Assert.All(items, static item => Assert.Equal(1, item.Runs));
        Assert.Equal(1, most);
    }

    [Fact]
    public void An_item_queued_twice_before_it_starts_runs_once_and_may_be_queued_again_when_it_has_started()
    {
        using var queue = new WorkQueue("again", 1);
        using var letGo = new ManualResetEventSlim();
        var blocker = new Item(_ => letGo.Wait(Actor.Limit, CancellationToken.None));
        var item = new Item(self =>
        {
            if (self.Runs == 0)
                Assert.True(queue.Queue(self));
        });
        queue.Queue(blocker);
        Assert.True(queue.Queue(item));
        Assert.False(queue.Queue(item));
        Assert.False(queue.Queue(item));
        letGo.Set();
        item.UntilRun(2);
        Assert.True(queue.Flush(Token));
        Assert.Equal(2, item.Runs);
    }

    [Fact]
    public void A_flush_waits_for_the_items_before_it_not_for_as_many_of_any()
    {
        using var queue = new WorkQueue("flushed", 4);
        using var letGo = new ManualResetEventSlim();
        var blocked = new Item(_ => letGo.Wait(Actor.Limit, CancellationToken.None));
        queue.Queue(blocked);
        bool flushed = false;
        Actor flusher = Actor.Start("flusher", () => flushed = queue.Flush(Token));
        flusher.UntilItWaitsFor("work queue flushed");
        var later = new Item(static _ => { });
        for (int i = 1; i <= 5; i++)
        {
            queue.Queue(later);
            later.UntilRun(i);
        }

        flusher.UntilItWaitsFor("work queue flushed");
        Assert.Equal(0, blocked.Runs);
        letGo.Set();
        flusher.Join();
        Assert.True(flushed);
    }

    [Fact]
    public void A_flush_can_be_interrupted_and_an_empty_queue_is_flushed_at_once()
    {
        using var queue = new WorkQueue("interrupted", 2);
        Assert.True(queue.Flush(Token));
        using var letGo = new ManualResetEventSlim();
        var blocked = new Item(_ => letGo.Wait(Actor.Limit, CancellationToken.None));
        queue.Queue(blocked);
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.False(queue.Flush(cancelled.Token));
        letGo.Set();
        Assert.True(queue.Flush(Token));
    }

    [Fact]
    public void Queuing_allocates_nothing()
    {
        using var queue = new WorkQueue("allocation", 1);
        using var letGo = new ManualResetEventSlim();
        var blocker = new Item(_ => letGo.Wait(Actor.Limit, CancellationToken.None));
        Item[] items = [.. Enumerable.Range(0, 50).Select(static _ => new Item(static _ => { }))];
        queue.Queue(blocker);
        queue.Queue(items[0]);
        long before = GC.GetAllocatedBytesForCurrentThread();
        foreach (Item item in items)
            queue.Queue(item);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        letGo.Set();
        Assert.True(queue.Flush(Token));
    }

    [Fact]
    public void A_worker_does_not_carry_the_execution_context_of_whoever_made_the_queue()
    {
        // A plugin's call is often what first needs the workers; what it carries along would live as long as they do.
        var carried = new AsyncLocal<object?> { Value = new object() };
        using var queue = new WorkQueue("context", 2);
        object?[] seen = [carried.Value, carried.Value];
        using var both = new Barrier(2);
        Item[] items = [.. Enumerable.Range(0, 2).Select(i => new Item(_ =>
        {
            seen[i] = carried.Value;
            Assert.True(both.SignalAndWait(Actor.Limit, CancellationToken.None));
        }))];
        foreach (Item item in items)
            queue.Queue(item);
        Assert.True(queue.Flush(Token));
        Assert.All(seen, Assert.Null);
        Assert.NotNull(carried.Value);
    }

    [Fact]
    public void A_disposed_queue_finishes_what_it_has_and_takes_nothing_more()
    {
        var queue = new WorkQueue("disposed", 2);
        var item = new Item(static _ => { });
        queue.Queue(item);
        queue.Dispose();
        item.UntilRun(1);
        Assert.Throws<ObjectDisposedException>(() => queue.Queue(item));
    }

    private sealed class Item(Action<Item> work) : WorkItem
    {
        private int _runs;

        internal int Runs => Volatile.Read(ref _runs);

        internal void UntilRun(int times) => Actor.Until(() => Runs >= times, $"the item has run {times} times");

        protected override void Run()
        {
            work(this);
            Interlocked.Increment(ref _runs);
        }
    }
}
