namespace DmaBufIo.Rings;

/// <summary>
/// The awaitable requests of one ring. There come to be as many as were ever waiting or ended and not looked at together; one whose result nobody takes is
/// left to the garbage collector.
/// </summary>
/// <remarks>
/// One thread at a time rents (the ring's, or whoever holds the lock of its hand-over queue); any thread may give back, because results may be taken
/// anywhere. Most are taken by continuations, on the thread that runs them and rents next: those go back without an interlocked instruction.
/// The others are pushed on a second list, which is only ever taken as a whole, so a push cannot mistake one head for another (no ABA).
/// </remarks>
internal sealed class AsyncRequestPool(bool continueElsewhere)
{
    private AsyncRequest? _idle;
    private AsyncRequest? _returned;
    private int _thread;

    internal AsyncRequest Rent()
    {
        AsyncRequest? request = _idle;
        if (request is null && Volatile.Read(ref _returned) is not null)
            request = Interlocked.Exchange(ref _returned, null);
        if (request is null)
            return new AsyncRequest(this, continueElsewhere);
        _idle = request.Next;
        request.Next = null;
        return request;
    }

    internal void Return(AsyncRequest request)
    {
        // Only the thread itself ever writes its own number there: whoever finds it is the one that rents.
        if (Volatile.Read(ref _thread) == Environment.CurrentManagedThreadId)
        {
            request.Next = _idle;
            _idle = request;
            return;
        }

        AsyncRequest? head = Volatile.Read(ref _returned);
        while (true)
        {
            request.Next = head;
            AsyncRequest? found = Interlocked.CompareExchange(ref _returned, request, head);
            if (ReferenceEquals(found, head))
                return;
            head = found;
        }
    }

    /// <summary>The calling thread, which rents, runs continuations now.</summary>
    /// <returns>For <see cref="EndRun"/>; runs nest.</returns>
    internal int BeginRun()
    {
        int outer = _thread;
        Volatile.Write(ref _thread, Environment.CurrentManagedThreadId);
        return outer;
    }

    internal void EndRun(int outer) => Volatile.Write(ref _thread, outer);
}
