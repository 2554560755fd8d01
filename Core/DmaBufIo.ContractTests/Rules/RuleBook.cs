namespace DmaBufIo.ContractTests;

/// <summary>A rule of the protocol, as a contract explains it.</summary>
/// <param name="Law">What the rule says, as a clause.</param>
/// <param name="Why">What goes wrong without it, as a clause.</param>
/// <param name="Page">The page of the contract that tests it.</param>
internal sealed record RuleText(string Law, string Why, string Page);

/// <summary>The rules that a plugin can break: their text and their reasons. The laws are those of docs/rules.md, in an author's words.</summary>
public static class RuleBook
{
    private static readonly Dictionary<string, RuleText> s_rules = new(StringComparer.Ordinal)
    {
        ["T1"] = new("a file opts in by having the token operation, and a registration is for one direction or both", "an application that registers for reading would have its buffer written, or a device would be asked for what it cannot do", "importer"),
        ["T2"] = new("a token holds one reference on the buffer and one on the file and drops each once, and a creation that fails leaves nothing behind", "what is left behind keeps the buffer and the device for ever", "importer"),
        ["T3"] = new("a driver supplies map, unmap and release", "a token could not be ended", "importer"),
        ["T4"] = new("a token outlives its maps, and at most one is live", "two live maps have two addresses for one byte, and one of them is not told of the next move", "importer"),
        ["T5"] = new("map and unmap run with the reservation lock held, and release without it", "the buffer could move while it is being mapped", "importer"),
        ["T7"] = new("a killed map gives no reference, and the next request has a new one made", "a request would use addresses at which the buffer no longer lies", "importer"),
        ["T8"] = new("unmap runs once per map, after the last reference, never where that was dropped, and ends what map has made", "the device keeps access to memory that belongs to somebody else, or a mapping is ended that a request still uses", "importer"),
        ["T9"] = new("a map stays valid memory for whoever raced with its kill", "the racing request reads freed memory", "importer"),
        ["T10"] = new("a token that ends waits for every map, then the driver releases what it holds, then the references go", "a registration leaks, or ends under a request", "importer"),
        ["T11"] = new("a reset ends requests and kills maps without waiting; a removal cancels first and then waits, and the token answers ENODEV from then on", "a reset that waits for requests which it keeps waits for itself, and a removed device is asked again", "importer"),
        ["T12"] = new("a map is made under the lock, after the exporter's fences, and undone under the same hold when it fails", "a device writes where a job still writes, or a half-made map is left mapped", "importer"),
        ["T13"] = new("a token is bound to its file, and another one gets EBADF", "a request would be given the addresses of another device", "file"),
        ["T14"] = new("whoever drains reaps any queue: the end of a request never depends on its application, nor on a thread that may wait for a lock", "an owner that moves its buffer waits for a completion that nobody looks for", "importer"),
        ["T15"] = new("who holds a map reference takes no reservation lock and waits for nothing that may need one", "the holder of the lock waits for the request, and the request for the lock", "importer"),
        ["T16"] = new("one reference per request, taken before its first bio; no room before that means: not taken, try again", "a request is done twice, or keeps the buffer in place while it waits in a queue", "importer"),
        ["T17"] = new("an invalidation over several tokens kills all, pays one barrier, then waits for all", "waiting for one while another still runs costs a deadlock", "exporter"),
        ["T18"] = new("at completion the device has finished with the memory, then comes the CPU sync, then the reference, then the completion", "the application reads a buffer that the device is still writing", "importer"),
        ["F1"] = new("room is reserved before a fence is added", "adding it could fail when it is too late to go back", "exporter"),
        ["F2"] = new("a fence replaces an older one of its context with the same or a weaker class", "the fence of a job that still runs is lost, and its memory is given away", "exporter"),
        ["F3"] = new("what a signal needs takes no reservation lock and waits for no fence that could wait for it", "everyone may hold the lock while waiting for the fence", "exporter"),
        ["F4"] = new("everyone may wait for a fence with the lock held, so a fence whose signal needs the lock is a deadlock", "the waiter holds what the signaller wants", "exporter"),
        ["F5"] = new("a locker without an acquire context cannot be wounded", "two of them with two buffers wait for each other for ever", "exporter"),
        ["F6"] = new("the exporter holds the reservation lock while it invalidates", "an importer makes a new map of the old place in the gap", "exporter"),
        ["F7"] = new("only after the invalidation, or its fences, is the old memory touched or given away", "a device still reads or writes it", "exporter"),
        ["I2"] = new("advance never passes the end, and what was issued is what the iterator has advanced by", "bytes are transferred twice or not at all", "file"),
        ["I5"] = new("a map's iterator is for the file whose token made the map", "a device gets the addresses of another one", "file"),
        ["I6"] = new("several ranges: one bio per range, one reference for all", "a range is lost, or the reference is dropped with the first of them", "file"),
        ["B1"] = new("a bio is backed by pages or by a map, never both, and the data is the same", "the wrong memory is transferred", "block-device"),
        ["B2"] = new("a copy of a bio has its backing and its kind", "a member of a set transfers other memory than it was asked to", "block-device"),
        ["B3"] = new("a device takes every bio within the limits that it names, and does not name limits that it cannot keep", "the layer above splits to the limits and cannot do more", "block-device"),
        ["B4"] = new("lengths and offsets are 64 bits until a driver clamps them", "a request beyond 4 GiB wraps around and overwrites the beginning", "block-device"),
        ["B5"] = new("direct I/O only, looked at again for every request", "a read would report success without moving data", "file"),
        ["B6"] = new("the token operation belongs to the block device, and a stack forwards it", "a set of devices that could do it cannot", "block-device"),
        ["R2"] = new("outside the buffer is EFAULT, unaligned is EINVAL, a length of 0 succeeds; at the end of the file a read is short", "errors that mean different things look the same", "file"),
        ["R4"] = new("nothing is lost or doubled when something must be tried again", "a request never ends, or ends twice", "file"),
        ["R6"] = new("a registration that was removed lives until its requests end", "a device transfers to memory that was given back", "file"),
        ["R7"] = new("buffers of more than 1 GiB work", "sizes that fit 30 bits are a limit that nobody expects", "importer"),
        ["N1"] = new("the addresses that a device gets are those of the buffer's bytes, in order, across every piece of it", "data lands in the wrong place", "importer"),
        ["N4"] = new("a request costs the same wherever it lies in the buffer", "the end of a large buffer is slower than its beginning", "importer"),
        ["N6"] = new("descriptors, mappings and memory are given back on every path, errors included", "a device that has failed often enough takes no more requests", "block-device"),
        ["N7"] = new("CPU caches are synchronised for the request's own range, before for the device and after for the CPU, on devices that are not coherent", "the device or the application sees old data", "importer"),
        ["N8"] = new("reset, timeout and removal complete every request exactly once", "a request hangs for ever, or its memory is used twice", "block-device"),
        ["N9"] = new("pieces of memory that the device cannot address are refused or handled, never truncated", "data is lost without an error", "importer"),
        ["Q1"] = new("a queue takes the first of the bios that it is given, at least as many as its Room has promised, and leaves the others alone", "what was not taken is submitted again: it would be done twice, or never", "block-device"),
        ["Q2"] = new("a poll ends no more bios than it is told, each when it is done, and a queue works for its own context alone", "a request is told to be done while the device works at it, or another application's request is", "block-device"),
        ["Q3"] = new("for every completion a call of the interrupt handler begins after a poll would find it", "the owner sleeps for ever", "block-device"),
        ["Q4"] = new("what a block device says of itself is so: one that is read-only answers EROFS to writes, one that is removed ENODEV, and a flush succeeds", "data is lost that its owner believes to be safe", "block-device"),
        ["C1"] = new("a PCI function's identity, BARs and vectors do not change", "its driver is bound to something else", "pci-function"),
        ["C2"] = new("a register access outside its BAR reads all ones and changes nothing", "a wrong offset takes the process down, as it takes no real machine down", "pci-function"),
        ["C3"] = new("a function-level reset leaves the function as it was made, with no DMA under way", "the next driver finds queues of the last one", "pci-function"),
        ["C4"] = new("a device reaches memory through its DMA port alone, and an address that is not mapped ends the command with an error", "it would overwrite memory that it was never given", "pci-function"),
        ["C5"] = new("a function that is gone reads all ones, interrupts nobody, and leaves its device removed from the fabric", "its thread works on memory that was freed", "pci-function"),
        ["C6"] = new("an interrupt is raised for what has completed, on a vector that has a handler", "its driver sleeps for ever", "pci-function"),
        ["L1"] = new("a plugin says what it is - a name, its words and options, the version of Core that it needs - and it is true, so that a host loads it", "what people read in the listing does not work", "plugin"),
        ["L2"] = new("a wrong expression is refused with a message that names the remedy, and leaves nothing open", "a misspelt option is ignored", "plugin"),
        ["L3"] = new("a plugin that is unloaded is collected", "each reload keeps the memory of all before it", "plugin"),
        ["L4"] = new("a plugin throws nothing from a callback of the request path", "its requests end with EIO and nobody knows why", "plugin"),
        ["A1"] = new("the request path allocates nothing and takes no lock", "the garbage collector and other threads decide about the latency of I/O", "importer"),
    };

    /// <summary>All rules that contracts check.</summary>
    public static IReadOnlyCollection<string> All => s_rules.Keys;

    /// <summary>The text of a rule.</summary>
    /// <param name="rule">Its number.</param>
    internal static RuleText Find(string rule) =>
        s_rules.TryGetValue(rule, out RuleText? text) ? text : throw new ArgumentException($"Rule {rule} is not in the book: add it to RuleBook.", nameof(rule));
}
