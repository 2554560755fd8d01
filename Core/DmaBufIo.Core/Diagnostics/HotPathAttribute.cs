namespace DmaBufIo.Diagnostics;

/// <summary>
/// Marks a method that every request passes, so that the promise of the request path can be checked in its machine code: no interlocked
/// instruction, no lock, nothing allocated, and nothing called that does not promise the same.
/// </summary>
/// <remarks>
/// <para>
/// A mark changes nothing in how the method runs; what is rare belongs in a method of its own without the mark (<c>return Slow(…)</c>),
/// which the compiler then leaves out of line. A check reads the compiler's listing of the optimised code after a warm-up: a marked
/// method, or whatever it was inlined into, holds no <c>lock</c> prefix, no <c>xchg</c> with memory and no <c>mfence</c> anywhere; and in
/// blocks that were reached it allocates nothing and calls marked methods only, apart from the device's own registers.
/// </para>
/// <para>
/// On a property the mark holds for its accessors. For authors of drivers: the methods of a queue (<c>Submit</c>, <c>Commit</c>,
/// <c>Poll</c>) and all that they call per request. Not inherited: each override promises for itself.
/// </para>
/// </remarks>
[AttributeUsage(AttributeTargets.Method | AttributeTargets.Property | AttributeTargets.Constructor, Inherited = false)]
public sealed class HotPathAttribute : Attribute;
