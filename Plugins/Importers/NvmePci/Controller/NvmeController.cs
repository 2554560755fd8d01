using DmaBufIo.Block;
using DmaBufIo.Devices;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Protocol;
using DmaBufIo.Importers.NvmePci.Queues;
using DmaBufIo.Pci;
using DmaBufIo.Sync;

namespace DmaBufIo.Importers.NvmePci.Controller;

/// <summary>One controller from probe to removal.</summary>
/// <remarks>
/// <c>_control</c> is held by whoever opens or closes a queue, resets or removes: these change which queues exist and what the controller
/// knows of
/// them. Order of locks: control, then a context's visitors, then the admin queue. It is never taken from within a batch; the request path
/// looks at its queue's own state only.
/// This file holds the start; queues, reset and removal are in files of their own.
/// </remarks>
internal sealed partial class NvmeController : IDisposable
{
    // Four list pages per tag at 4 KiB; larger requests gain nothing measurable and would cost list memory in every queue.
    private const long LargestTransfer = 4L << 20;

    // As many rings as one process sensibly has. What a controller grants costs it resources.
    private const int WantedQueues = 128;

    private readonly NvmePciOptions _options;
    private readonly SleepingMutex _control;
    private readonly AdminQueue _admin;
    private readonly WorkQueue _workers;
    private readonly List<NvmeNamespace> _namespaces = [];
    private readonly List<string> _skipped = [];
    private NvmeQueue?[] _queues = [];

    private NvmeController(PciFunction function, string name, NvmePciOptions options)
    {
        _options = options;
        Function = function;
        FunctionName = function.Name;
        Name = name;
        _control = new SleepingMutex($"queues of {name}");
        Registers = new ControllerRegisters(function, name);
        Device = new DmaDevice(name, function.AddressSpace) { Location = function.Location };
        Registers.Disable();
        _admin = new AdminQueue(function, Registers, name, TimeSpan.FromMilliseconds(options.TimeoutMilliseconds));
        _recovery = new Recovery(this);
        _workers = new WorkQueue($"{name}-recovery", 1);
    }

    /// <summary>A name for messages.</summary>
    internal string Name { get; }

    /// <summary>The function.</summary>
    internal PciFunction Function { get; }

    /// <summary>Its name, which can still be asked for when it is disposed.</summary>
    internal string FunctionName { get; }

    /// <summary>Its registers.</summary>
    internal ControllerRegisters Registers { get; }

    /// <summary>What attaches to buffers.</summary>
    internal DmaDevice Device { get; }

    /// <summary>What Identify Controller said.</summary>
    internal ControllerIdentity Identity { get; private set; } = null!;

    /// <summary>The controller page as a power of two (P1).</summary>
    internal int PageShift => Registers.PageShift;

    /// <summary>The largest transfer: MDTS (P12), and what the list pages of a tag describe.</summary>
    internal long MaxTransferBytes { get; private set; }

    /// <summary>How long a command may take.</summary>
    internal int TimeoutMilliseconds => _options.TimeoutMilliseconds;

    /// <summary>The namespaces that the driver works with.</summary>
    internal IReadOnlyList<BlockDevice> Namespaces => _namespaces;

    /// <summary>The others, with reasons.</summary>
    internal IReadOnlyList<string> SkippedNamespaces => _skipped;

    /// <summary>Starts a controller; on failure it is disabled and nothing of the driver is left in its address space.</summary>
    internal static NvmeController Start(PciFunction function, string name, NvmePciOptions options)
    {
        var controller = new NvmeController(function, name, options);
        try
        {
            controller.EnableController();
            controller._queues = new NvmeQueue?[controller.NegotiateQueues() + 1];
            controller.IdentifyAll();
            return controller;
        }
        catch
        {
            controller._workers.Dispose();
            controller.StopDma();
            controller._admin.Dispose();
            throw;
        }
    }

    private void EnableController()
    {
        _admin.Restart();
        Registers.Enable(_admin.SubmissionAddress, _admin.CompletionAddress, AdminQueue.Entries);
    }

    private int NegotiateQueues()
    {
        const uint NumberOfQueues = 0x07;
        const uint Wanted = WantedQueues - 1;
        var command = new NvmeCommand { Dword0 = AdminOpcode.SetFeatures, Dword10 = NumberOfQueues, Dword11 = Wanted | (Wanted << 16) };
        uint granted = _admin.Execute(command, "set the number of queues");

        // The controller may grant more than was asked for; both numbers are less one.
        return Math.Min(WantedQueues, (int)Math.Min(granted & 0xFFFF, granted >> 16) + 1);
    }

    private void IdentifyAll()
    {
        byte[] data = new byte[4096];
        _admin.Identify(1, 0, data, "identify the controller");
        Identity = ControllerIdentity.Parse(data);
        long limit = Identity.TransferShift is 0 or > 20 ? LargestTransfer : 1L << (PageShift + Identity.TransferShift);
        MaxTransferBytes = Math.Min(LargestTransfer, limit);

        byte[] list = new byte[4096];
        _admin.Identify(2, 0, list, "list the active namespaces");
        for (int i = 0; i < list.Length; i += sizeof(uint))
        {
            uint id = BitConverter.ToUInt32(list, i);
            if (id == 0)
                break;
            _admin.Identify(0, id, data, $"identify namespace {id}");
            Accept(id, NamespaceIdentity.Parse(data));
        }

        if (_namespaces.Count == 0)
        {
            string reason = _skipped.Count == 0 ? "the controller has no active namespace" : string.Join("; ", _skipped);
            throw NvmeError.Make(
                Errno.EOPNOTSUPP, Name, reason, "Create or format a namespace with blocks of 512 to 4096 bytes, without metadata");
        }
    }

    private void Accept(uint id, in NamespaceIdentity identity)
    {
        string? problem =
            identity.BlockShift is < 9 or > 12 ? $"its logical block of 2^{identity.BlockShift} bytes is not between 512 and 4096"
            : identity.MetadataSize != 0 ? $"it has {identity.MetadataSize} bytes of metadata per logical block"
            : identity.Blocks == 0 || identity.Blocks > (ulong)long.MaxValue >> identity.BlockShift
                ? $"its size of {identity.Blocks} blocks is out of range"
            : null;
        if (problem is null)
            _namespaces.Add(new NvmeNamespace(this, id, identity));
        else
            _skipped.Add($"namespace {id}: {problem}");
    }

    private void LockControl()
    {
        // Also when the lock is free: what follows visits contexts and waits for the controller.
        NoSleepContext.AssertMaySleep($"queues of {Name}");
        if (_control.Lock() != Errno.Ok)
            throw new InvalidOperationException($"Queues of {Name} were changed from within a change of queues.");
    }
}
