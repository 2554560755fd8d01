using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;
using StorageToNetwork;

// A file goes from an NVMe drive into the memory of a GPU, is checksummed there, goes out through a network card, comes in through a second one, and is written to a second drive. The CPU
// copies nothing on the way: drives, GPU and cards work on the buffers themselves.
if (args.Length != 2)
{
    Console.Error.WriteLine("usage: StorageToNetwork SRC DST");
    return 2;
}

// Written under a name of its own, and put in place when it is right: what was there before stays until then, also when it is the source under another name.
string destination = Path.GetFullPath(args[1]);
string partial = $"{destination}.{Environment.ProcessId}.partial";
Console.CancelKeyPress += (_, _) => File.Delete(partial);
try
{
    string source = Path.GetFullPath(args[0]);
    long size = new FileInfo(source).Length;
    if (destination == source)
        throw new IOException($"DST is SRC ({source}).");

    // Its space is taken now: a disk that is full says so before anything is copied.
    using (var target = new FileStream(partial, new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write, PreallocationSize = size }))
        target.SetLength(size);
    using var iommu = new ModelIommu();
    var options = new DmaBufIoOptions();
    options.PluginFolder = Environment.GetEnvironmentVariable("DMABUFIO_PLUGINS") ?? options.PluginFolder; // else "plugins" beside the program
    using DmaBufIoHost host = DmaBufIoHost.Create(options.UseFabric(iommu));
    long copied = Counters.BytesCopied.Value;
    byte[] onGpu;
    using (var relay = new Relay(host, source, partial, size))
        onGpu = relay.Run();
    copied = Counters.BytesCopied.Value - copied;

    // A drive writes whole blocks; what lies behind the data is cut off.
    using (FileStream target = File.OpenWrite(partial))
        target.SetLength(size);
    string sent = Convert.ToHexStringLower(Relay.HashOf(source));
    string seen = Convert.ToHexStringLower(onGpu);
    string received = Convert.ToHexStringLower(Relay.HashOf(partial));
    bool ok = sent == seen && sent == received && copied == 0 && iommu is { Faults: 0, StaleAccesses: 0 };
    if (ok)
        File.Move(partial, destination, overwrite: true);
    Console.WriteLine($"bytes           {size}");
    Console.WriteLine($"sent            {sent}");
    Console.WriteLine($"seen by the GPU {seen}");
    Console.WriteLine($"received        {received}");
    Console.WriteLine($"copied by CPU   {copied} bytes");
    Console.WriteLine($"IOMMU           {iommu.Faults} faults, {iommu.StaleAccesses} stale accesses");
    Console.WriteLine(ok ? "ok" : "FAILED");
    return ok ? 0 : 1;
}
catch (Exception e) when (e is DmaBufIoException or IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine($"error: {e.Message}");
    return 1;
}
finally
{
    File.Delete(partial);
}
