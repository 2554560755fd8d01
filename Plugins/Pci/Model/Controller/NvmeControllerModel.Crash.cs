using DmaBufIo.Pci.Model.Stores;

namespace DmaBufIo.Pci.Model;

/// <content>Loss of power.</content>
public sealed partial class NvmeControllerModel
{
    private readonly WriteCacheStore? _cache;
    private long _commandsUntilCrash; // I/O commands that are executed before power is lost; 0 is never
    private ulong _crashSeed;

    /// <summary>The report of the crash, or null while there was none. Any thread.</summary>
    public CrashReport? Crashed { get; private set; }

    /// <summary>
    /// Power is lost now, between two commands: as after <see cref="Kill"/>, and of what was written and not flushed any subset survives, block by block
    /// (<see cref="NvmeModelOptions.WriteCacheSize"/>). Any thread but an interrupt handler's. Idempotent.
    /// </summary>
    /// <param name="seed">The same seed on the same contents keeps the same.</param>
    /// <returns>What became of the cache.</returns>
    public CrashReport Crash(ulong seed)
    {
        _gone = true;
        EnterControl();
        try
        {
            return CrashLocked(seed);
        }
        finally
        {
            _engine.Exit();
        }
    }

    /// <summary>Power is lost when so many more I/O commands have been executed, instead of the next one.</summary>
    /// <param name="commands">From 1.</param>
    /// <param name="seed">As for <see cref="Crash"/>.</param>
    public void CrashAfter(long commands, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(commands);
        EnterControl();
        _commandsUntilCrash = commands;
        _crashSeed = seed;
        _engine.Exit();
    }

    private CrashReport CrashLocked(ulong seed)
    {
        _gone = true;
        Crashed ??= _cache?.Crash(seed) ?? default;
        return Crashed.Value;
    }

    /// <summary>Asked before each I/O command.</summary>
    /// <returns>True when power is lost: the command is not executed.</returns>
    private bool IsPowerLost()
    {
        if (_commandsUntilCrash == 0)
            return false;
        if (_commandsUntilCrash-- > 1)
            return false;
        CrashLocked(_crashSeed);
        return true;
    }
}
