namespace DmaBufIo.Rings;

/// <summary>How a ring learns of completions.</summary>
public enum CompletionMode
{
    /// <summary>The ring's thread looks at its devices until something has come: the lowest latency, at the price of a core.</summary>
    Polling,

    /// <summary>The ring's thread sleeps until a device interrupts. Files whose devices have no interrupts are refused.</summary>
    Interrupts,
}
