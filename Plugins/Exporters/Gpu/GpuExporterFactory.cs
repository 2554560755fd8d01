using System.Globalization;
using DmaBufIo.Devices;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Exporters.Gpu.Jobs;
using DmaBufIo.Exporters.Gpu.Memory;
using DmaBufIo.Exporters.Gpu.Pressure;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;

namespace DmaBufIo.Exporters.Gpu;

/// <summary>The exporter word <c>gpu[:NAME][,vram=SIZE]…</c>. Buffers of one name lie on one GPU, which lives while it has buffers.</summary>
internal sealed class GpuExporterFactory : IExporterFactory, IMovableBuffers, IComputeBuffers, IPressableBuffers
{
    private const long DefaultVram = 256 << 20;
    private readonly Lock _lock = new();
    private readonly List<Gpu> _gpus = [];

    /// <summary>The options of the word.</summary>
    internal static IReadOnlyList<PluginOption> Options { get; } =
    [
        new("vram", "a size, a multiple of 64K", "256M", "Memory of the GPU; the first buffer of a name decides"),
        new("slot", "a place in the PCI tree", "hb0/NAME", "Where the GPU hangs: BRIDGE/PORT[/PORT...]"),
        new("placement", "vram or system", "vram", "Where jobs want the buffer"),
        new("priority", "a whole number, also below 0", "0", "Buffers of a lower priority are evicted first"),
    ];

    /// <inheritdoc/>
    public string Word => "gpu";

    /// <inheritdoc/>
    public bool CanMove => true;

    /// <inheritdoc/>
    public DmaBuf Create(DeviceExpression expression, string name, long size)
    {
        expression.AllowOnly([.. Options.Select(static o => o.Name)]);
        bool inVram = expression.Options.TryGetValue("placement", out DeviceOption placement) ? placement.Value switch
        {
            "vram" => true,
            "system" => false,
            _ => throw expression.Broken(placement.Position, $"'{placement.Value}' is no placement", "Write placement=vram or placement=system"),
        } : true;
        int priority = 0;
        if (expression.Options.TryGetValue("priority", out DeviceOption given)
            && !int.TryParse(given.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out priority))
            throw expression.Broken(given.Position, $"'{given.Value}' is not a whole number", "Write for example priority=5, or priority=-1 to be evicted before the others");
        Gpu gpu = Join(expression);
        try
        {
            GpuBuffer made = gpu.Create(name, size, inVram, priority);
            lock (_lock)
                gpu.Join(); // the buffer's own, which it gives back when it is freed
            return made.Buffer;
        }
        finally
        {
            Ended(gpu);
        }
    }

    /// <summary>Moves the buffer to the other memory: evicts it, or restores it.</summary>
    /// <inheritdoc/>
    public InvalidationReport Move(DmaBuf buffer, CancellationToken cancellationToken = default)
    {
        GpuBuffer moved = Own(buffer);
        var context = new AcquireContext();
        while (true)
        {
            Errno status = TryMove(moved, context, out InvalidationReport report, cancellationToken);
            if (status == Errno.Ok)
                return report;
            cancellationToken.ThrowIfCancellationRequested();
            if (status == Errno.EBUSY)
                throw new DmaBufIoException(status, GpuPlugin.PluginName, buffer.Name, "the buffer is pinned by a static attachment", "Detach the device that pins it, or attach it dynamically");
            if (status != Errno.EDEADLK)
                throw new DmaBufIoException(status, GpuPlugin.PluginName, buffer.Name, "there is no room for it in the GPU's memory", "Unpin others, or give the GPU more memory (gpu:vram=SIZE)");
        }
    }

    /// <inheritdoc/>
    public IComputeJob Fill(DmaBuf buffer, long offset, long length, byte value) => Kernels.Fill(Own(buffer), offset, length, value);

    /// <inheritdoc/>
    public IComputeJob Hash(DmaBuf buffer, long offset, long length) => Kernels.Hash(Own(buffer), offset, length);

    /// <inheritdoc/>
    public IComputeJob Copy(DmaBuf source, long sourceOffset, DmaBuf destination, long destinationOffset, long length) =>
        Kernels.Copy(Own(source), sourceOffset, Own(destination), destinationOffset, length);

    /// <inheritdoc/>
    public IMemoryPressure Press(DmaBuf buffer) => new PressureLoad(Own(buffer), (gpu, name, size) =>
    {
        GpuBuffer made = gpu.Create(name, size, inVram: true, priority: 0);
        lock (_lock)
            gpu.Join();
        return made;
    });

    private static GpuBuffer Own(DmaBuf buffer) => buffer.Exporter as GpuBuffer
        ?? throw new DmaBufIoException(Errno.EINVAL, GpuPlugin.PluginName, buffer.Name, "the buffer is not a GPU's", "Use a buffer that the exporter gpu has made");

    private static Errno TryMove(GpuBuffer buffer, AcquireContext context, out InvalidationReport report, CancellationToken cancellationToken)
    {
        report = default;
        Errno status = buffer.Buffer.Reservation.TryLock(out ReservationGuard guard, context, cancellationToken);
        if (status != Errno.Ok)
            return status;
        using (guard)
        {
            if (buffer.Pins != 0)
                return Errno.EBUSY;
            if (!buffer.Place.IsVram)
                return buffer.Gpu.Memory.TryMoveToVram(buffer, context, guard.Held, out report);
            report = buffer.Gpu.Memory.MoveToSystem(buffer, "moved there on demand", guard.Held);
            return Errno.Ok;
        }
    }

    private Gpu Join(DeviceExpression expression)
    {
        string name = string.IsNullOrEmpty(expression.Text) ? "gpu0" : expression.Text;
        DeviceLocation? slot = expression.Location("slot");
        lock (_lock)
        {
            if (_gpus.Find(g => g.Name == name) is { } known)
            {
                if (expression.Options.TryGetValue("vram", out DeviceOption vram) && expression.Size("vram", 0) != known.Vram)
                    throw expression.Broken(vram.Position, $"{name} has {known.Vram} bytes of memory", "Leave the option out, or name another GPU: gpu:NAME,vram=SIZE");
                if (slot is not null && slot != known.Location)
                    throw expression.Broken(expression.Options["slot"].Position, $"{name} hangs at {known.Location}", "Leave the option out, or name another GPU: gpu:NAME,slot=PLACE");
                known.Join();
                return known;
            }

            long size = expression.Size("vram", DefaultVram);
            if (size < VramHeap.Granule || size % VramHeap.Granule != 0)
                throw expression.Broken(expression.Options["vram"].Position, $"{size} bytes of memory are no positive multiple of {VramHeap.Granule}", "Write for example vram=64M");
            var made = new Gpu(name, size, slot ?? DeviceLocation.Parse($"hb0/{name}"), Ended);
            _gpus.Add(made);
            return made;
        }
    }

    private void Ended(Gpu gpu)
    {
        lock (_lock)
        {
            if (gpu.Leave())
                _gpus.Remove(gpu);
        }
    }
}
