namespace DmaBufIo.ContractTests;

/// <summary>
/// Where the threads of a contract come from. A contract does not care whether they are real or controlled: it names its actors, says what each does, and lets them run. An explorer of
/// interleavings takes the place of <see cref="ThreadActors"/> (<see cref="ContractWorld.Actors"/>).
/// </summary>
internal interface IActors
{
    /// <summary>Runs all actors at once, until all have returned.</summary>
    /// <param name="actors">A name and what it does; one thread each.</param>
    /// <exception cref="BrokenRuleException">What an actor has found; the first in the order given.</exception>
    /// <exception cref="TimeoutException">An actor did not return; the message tells what it waits for.</exception>
    void Run(params ReadOnlySpan<(string Name, Action Body)> actors);

    /// <summary>Starts one actor beside the caller.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="body">What it does.</param>
    /// <returns>The actor; joined by the world when the contract does not.</returns>
    IActor Start(string name, Action body);
}

/// <summary>An actor that was started.</summary>
internal interface IActor
{
    /// <summary>True once it has returned.</summary>
    bool HasEnded { get; }

    /// <summary>Waits until it has returned.</summary>
    /// <exception cref="TimeoutException">It did not; the message tells what it waits for.</exception>
    void Join();

    /// <summary>Waits until it has returned or waits for something: in a primitive of Sync, or in one of .NET's for a long while.</summary>
    /// <returns>True when it waits: as far as can be seen it does not go on before somebody lets it.</returns>
    /// <exception cref="TimeoutException">Neither.</exception>
    bool UntilBlocked();
}
