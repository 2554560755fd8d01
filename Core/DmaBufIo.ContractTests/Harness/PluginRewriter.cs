using System.Collections.Concurrent;
using System.Security.Cryptography;
using Mono.Cecil;
using Mono.Cecil.Cil;
using Mono.Cecil.Rocks;

namespace DmaBufIo.ContractTests;

/// <summary>
/// Puts counters into the code of a plugin: before each call that takes a lock or is interlocked, at the beginning of each method, and at each jump backwards. So the cost of a request is
/// counted, not timed. Or tells behind each look at what another thread may change: volatile reads, and whether a device is removed. What the plugin does stays the same.
/// </summary>
internal static class PluginRewriter
{
    private static readonly ConcurrentDictionary<(string Hash, PluginCode Code), byte[]> s_rewritten = new();

    // Types whose calls take a lock, by the beginning of the names of those that do.
    private static readonly Dictionary<string, string[]> s_locks = new(StringComparer.Ordinal)
    {
        ["System.Threading.Monitor"] = ["Enter", "TryEnter", "Wait", "Pulse"],
        ["System.Threading.Lock"] = ["Enter", "TryEnter"],
        ["System.Threading.SpinLock"] = ["Enter", "TryEnter"],
        ["System.Threading.SemaphoreSlim"] = ["Wait", "Release"],
        ["System.Threading.ReaderWriterLockSlim"] = ["Enter", "TryEnter", "Exit"],
        ["System.Threading.ReaderWriterLock"] = ["Acquire", "Release", "Upgrade", "Downgrade"],
        ["System.Threading.WaitHandle"] = ["WaitOne", "WaitAny", "WaitAll", "SignalAndWait"],
        ["System.Threading.EventWaitHandle"] = ["Set", "Reset"],
        ["System.Threading.Semaphore"] = ["Release"],
        ["System.Threading.Mutex"] = ["ReleaseMutex"],
        ["System.Threading.Barrier"] = ["SignalAndWait"],
        ["System.Threading.CountdownEvent"] = ["Signal", "Wait"],
        ["System.Threading.ManualResetEventSlim"] = ["Wait", "Set"],
        ["System.Threading.Channels.ChannelReader`1"] = ["TryRead", "ReadAsync", "WaitToReadAsync"],
        ["System.Threading.Channels.ChannelWriter`1"] = ["TryWrite", "WriteAsync", "WaitToWriteAsync"],
        ["System.Collections.Concurrent.BlockingCollection`1"] = ["Add", "TryAdd", "Take", "TryTake"],
        ["System.Collections.Concurrent.ConcurrentBag`1"] = ["Add", "TryTake", "TryPeek"],
        ["System.Collections.Concurrent.ConcurrentDictionary`2"] = ["TryAdd", "TryRemove", "TryUpdate", "AddOrUpdate", "GetOrAdd", "Clear", "set_Item", "get_Count", "get_Keys", "get_Values", "ToArray"],
        ["DmaBufIo.Sync.SleepingMutex"] = ["Lock", "TryLock"],
        ["DmaBufIo.Sync.WoundWaitLock"] = ["Lock", "TryLock"],
        ["DmaBufIo.Sync.WaitQueue"] = ["Wait", "WakeAll"],
        ["DmaBufIo.Sync.WorkQueue"] = ["Queue", "Flush"],
        ["DmaBufIo.DmaBufs.ReservationObject"] = ["Lock", "TryLock", "TryLockAtOnce", "Wait"],
    };

    /// <summary>Rewrites an assembly.</summary>
    /// <param name="image">Its bytes.</param>
    /// <param name="code">What is put in.</param>
    /// <returns>The bytes of the same assembly with it.</returns>
    internal static byte[] Rewrite(byte[] image, PluginCode code) => s_rewritten.GetOrAdd((Convert.ToHexString(SHA256.HashData(image)), code), _ => RewriteNow(image, code));

    private static byte[] RewriteNow(byte[] image, PluginCode code)
    {
        using var assembly = AssemblyDefinition.ReadAssembly(new MemoryStream(image, writable: false));
        ModuleDefinition module = assembly.MainModule;
        var counters = new Counters(Import(module, nameof(PluginMeter.Step)), Import(module, nameof(PluginMeter.Lock)), Import(module, nameof(PluginMeter.Interlock)));
        MethodReference look = Import(module, nameof(PluginMeter.Look));
        foreach (MethodDefinition method in module.GetTypes().SelectMany(static t => t.Methods).Where(static m => m.HasBody))
        {
            if (code == PluginCode.Watched)
                PutBehindLooks(method.Body, look);
            else
                Rewrite(method.Body, counters);
        }

        var rewritten = new MemoryStream();
        assembly.Write(rewritten);
        return rewritten.ToArray();
    }

    private static MethodReference Import(ModuleDefinition module, string counter) => module.ImportReference(typeof(PluginMeter).GetMethod(counter, Type.EmptyTypes)!);

    private static void Rewrite(MethodBody body, in Counters counters)
    {
        // Found first: instructions move when counters are put in. Long forms of jumps, because distances grow.
        body.SimplifyMacros();
        ILProcessor il = body.GetILProcessor();
        var found = new List<(Instruction At, MethodReference Counter)> { (body.Instructions[0], counters.Step) };
        if (body.Method.IsSynchronized)
            found.Add((body.Instructions[0], counters.Lock));
        foreach (Instruction instruction in body.Instructions)
        {
            if (CounterOf(instruction, counters) is { } counter)
                found.Add((instruction, counter));
        }

        foreach ((Instruction at, MethodReference counter) in found)
            PutBefore(il, at, counter);
        body.OptimizeMacros();
    }

    private static void PutBehindLooks(MethodBody body, MethodReference told)
    {
        body.SimplifyMacros();
        ILProcessor il = body.GetILProcessor();
        foreach (Instruction after in body.Instructions.Where(IsLook).Select(static i => i.Next).ToArray())
            PutBefore(il, after, told);
        body.OptimizeMacros();
    }

    private static bool IsLook(Instruction instruction)
    {
        if (instruction.OpCode.Code is Code.Ldfld or Code.Ldsfld)
            return instruction.Previous?.OpCode.Code == Code.Volatile;
        return instruction.OpCode.Code is Code.Call or Code.Callvirt && instruction.Operand is MethodReference called
            && (called.Name == "get_IsRemoved" || (called.Name == "Read" && called.DeclaringType.FullName is "System.Threading.Volatile" or "System.Threading.Interlocked"));
    }

    private static MethodReference? CounterOf(Instruction instruction, in Counters counters)
    {
        if (instruction.Operand is Instruction target)
            return target.Offset <= instruction.Offset ? counters.Step : null;
        if (instruction.OpCode.Code is not (Code.Call or Code.Callvirt) || instruction.Operand is not MethodReference called)
            return null;
        string type = called.DeclaringType.GetElementType().FullName;
        if (type is "System.Threading.Interlocked" or "System.Collections.Concurrent.ConcurrentQueue`1" or "System.Collections.Concurrent.ConcurrentStack`1")
            return counters.Interlock;
        return s_locks.TryGetValue(type, out string[]? names) && Array.Exists(names, name => called.Name.StartsWith(name, StringComparison.Ordinal)) ? counters.Lock : null;
    }

    /// <summary>The instruction's own object becomes the counter, so that who jumps to it, or guards from it on, meets the counter first.</summary>
    private static void PutBefore(ILProcessor il, Instruction at, MethodReference counter)
    {
        while (at.Previous is { OpCode.OpCodeType: OpCodeType.Prefix } prefix)
            at = prefix;
        Instruction moved = il.Create(OpCodes.Nop);
        moved.OpCode = at.OpCode;
        moved.Operand = at.Operand;
        il.InsertAfter(at, moved);
        at.OpCode = OpCodes.Call;
        at.Operand = counter;
    }

    private readonly record struct Counters(MethodReference Step, MethodReference Lock, MethodReference Interlock);
}
