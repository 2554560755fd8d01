using DmaBufIo.Errors;

namespace DmaBufIo.Pci.Model;

/// <summary>What a crash has done to a controller's volatile write cache.</summary>
/// <param name="Blocks">Logical blocks with unflushed writes.</param>
/// <param name="Kept">Of these, how many hold what was written last.</param>
/// <param name="Status">What the storage behind the namespace answered; <c>Ok</c> when all that survives is there.</param>
public readonly record struct CrashReport(int Blocks, int Kept, Errno Status);
