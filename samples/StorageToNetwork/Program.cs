using System.Runtime.InteropServices;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Native;
using StorageToNetwork;

// A file goes from an NVMe drive into the memory of a GPU, is checksummed there, goes out through a network card, comes in through a second one, and is written to a second drive. The CPU
// copies nothing on the way: drives, GPU and cards work on the buffers themselves.
if (args.Length != 2)
{
    Console.Error.WriteLine("usage: StorageToNetwork SRC DST");
    return 2;
}

// Whoever wants an end gets it when what is in flight has ended.
using var stop = new CancellationTokenSource();
using PosixSignalRegistration interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
using PosixSignalRegistration terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);

// Written under a name of its own, and put in place when it is right: what was there before stays until then.
string? partial = null;
try
{
    string source = Path.GetFullPath(args[0]);
    string destination = Path.GetFullPath(args[1]);
    if (new FileInfo(destination).LinkTarget is not null)
        destination = File.ResolveLinkTarget(destination, returnFinalTarget: true)!.FullName; // a link stays one
    long size = new FileInfo(source).Length;
    if (FileStatus.Of(destination, out FileStatus there) == Errno.Ok)
    {
        if (FileStatus.Of(source, out FileStatus from) == Errno.Ok && from.Identity == there.Identity)
            throw new IOException($"DST {args[1]} is the same file as SRC {args[0]}. Name another one; links to one file count as one.");
        if (there.Kind != FileKind.Regular)
            throw new IOException($"DST {args[1]} is not a regular file.");
    }

    partial = $"{destination}.{Environment.ProcessId}.partial";

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
        onGpu = relay.Run(stop.Token);
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
catch (OperationCanceledException)
{
    Console.Error.WriteLine("interrupted: DST is as it was");
    return 130;
}
catch (Exception e) when (e is DmaBufIoException or IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine($"error: {e.Message}");
    return 1;
}
finally
{
    if (partial is not null)
        File.Delete(partial);
}

void Stop(PosixSignalContext signal)
{
    signal.Cancel = true;
    stop.Cancel();
}
