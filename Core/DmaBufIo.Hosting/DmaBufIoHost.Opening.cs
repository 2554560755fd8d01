using DmaBufIo.Errors;
using DmaBufIo.Hosting.Topology;
using DmaBufIo.Plugins;

namespace DmaBufIo.Hosting;

/// <content>Opening of devices and making of buffers.</content>
public sealed partial class DmaBufIoHost
{
    /// <summary>Parses a device expression with the words of the plugins that are loaded now; opens nothing.</summary>
    /// <param name="expression">A topology expression or a plain path.</param>
    /// <returns>The tree.</returns>
    /// <exception cref="DmaBufIoException">Broken (<c>EINVAL</c>); the message points at the character.</exception>
    public DeviceExpression Parse(string expression)
    {
        ThrowIfNotStarted();
        return new ExpressionParser(Plugins.DeviceWords, Plugins.ExporterWords).ParseDevice(expression);
    }

    /// <summary>Opens a device and everything it stands on.</summary>
    /// <param name="expression">
    /// A topology expression or a plain path, which means <c>nvme:PATH</c>; the grammar stands at <see cref="ExpressionParser"/>.
    /// </param>
    /// <param name="readOnly">True when the device will only be read.</param>
    /// <returns>The device; the caller disposes it, or the host does when it stops.</returns>
    /// <exception cref="DmaBufIoException">
    /// A broken expression or an unknown word (<c>EINVAL</c>), no driver (<c>ENODEV</c>), or what the plugins say. Nothing stays open then.
    /// </exception>
    public OpenedDevice Open(string expression, bool readOnly = false) => Open(Parse(expression), readOnly);

    /// <summary>Opens a device and everything it stands on.</summary>
    /// <param name="expression">From <see cref="Parse"/>, perhaps with options added.</param>
    /// <param name="readOnly">True when the device will only be read.</param>
    /// <returns>The device; the caller disposes it, or the host does when it stops.</returns>
    /// <exception cref="DmaBufIoException">
    /// An unknown word (<c>EINVAL</c>), no driver (<c>ENODEV</c>), or what the plugins say. Nothing stays open then.
    /// </exception>
    public OpenedDevice Open(DeviceExpression expression, bool readOnly = false)
    {
        ThrowIfNotStarted();
        var owned = new OwnedStack();
        var device = new OpenedDevice(_tree.Open(expression, readOnly, owned), owned, Closed);
        Add(_devices, device);
        _logger.DeviceOpened(device.Name, ExpressionText.Format(expression), device.Root.DriverName);
        return device;
    }

    /// <summary>How large each member of a set, or each device under a file, must be: for whoever makes them before the expression is opened.</summary>
    /// <param name="expression">From <see cref="Parse"/>.</param>
    /// <param name="capacity">Bytes that the device or file is to hold.</param>
    /// <returns>Bytes of each member, a multiple of 4096.</returns>
    /// <exception cref="DmaBufIoException">An unknown word, or a broken expression (<c>EINVAL</c>).</exception>
    public long MemberCapacity(DeviceExpression expression, long capacity)
    {
        ThrowIfNotStarted();
        if (Plugins.Find(p => p.BlockDevice(expression.Word)) is var (devices, deviceUse))
        {
            using (deviceUse)
                return devices.MemberCapacity(expression, capacity);
        }

        if (Plugins.Find(p => p.File(expression.Word)) is var (files, fileUse))
        {
            using (fileUse)
                return files.MemberCapacity(expression, capacity);
        }

        throw expression.Broken(expression.Position, $"'{expression.Word}' has no members", "Give a set of devices");
    }

    /// <summary>What the plugins have written about themselves to a device: whose it is. Opens it for reading, and closes it again.</summary>
    /// <param name="expression">A device, from <see cref="Parse"/>.</param>
    /// <returns>One mark for each kind of device or file that stands on it; empty for a device that belongs to nobody.</returns>
    /// <exception cref="DmaBufIoException">It cannot be opened or read.</exception>
    public IReadOnlyList<DeviceMark> MarksOn(DeviceExpression expression)
    {
        using OpenedDevice opened = Open(expression, readOnly: true);
        Block.BlockDevice device = opened.BlockDevice;
        var marks = new List<DeviceMark?>();
        foreach (string word in Plugins.DeviceWords)
        {
            if (Plugins.Find(p => p.BlockDevice(word)) is var (devices, deviceUse))
            {
                using (deviceUse)
                    marks.Add(devices.Look(device));
            }
            else if (Plugins.Find(p => p.File(word)) is var (files, fileUse))
            {
                using (fileUse)
                    marks.Add(files.Look(device));
            }
        }

        return [.. marks.OfType<DeviceMark>()];
    }

    /// <summary>Makes a buffer.</summary>
    /// <param name="exporterExpression">
    /// For example "udmabuf" or "gpu:vram=64M"; the grammar stands at <see cref="ExpressionParser"/>.
    /// </param>
    /// <param name="name">A name for the buffer, for messages.</param>
    /// <param name="size">Bytes, a positive multiple of the page size.</param>
    /// <returns>The buffer; the caller disposes it, or the host does when it stops.</returns>
    /// <exception cref="DmaBufIoException">
    /// A broken expression, an unknown exporter, a wrong size (<c>EINVAL</c>), or what the exporter says.
    /// </exception>
    public ExportedBuffer CreateBuffer(string exporterExpression, string name, long size)
    {
        ThrowIfNotStarted();
        if (size <= 0 || size % Memory.MemoryRegion.PageSize != 0)
            throw new DmaBufIoException(
                Errno.EINVAL,
                "Hosting",
                $"buffer {name}",
                $"the size is not a positive multiple of the page size ({Memory.MemoryRegion.PageSize})",
                "Round it up to whole pages",
                range: $"0+{size}");
        return CreateBuffer(exporterExpression, name, (factory, parsed) => factory.Create(parsed, name, size));
    }

    /// <summary>Makes a buffer of memory that the application has already: ranges of sealed memory files, in order.</summary>
    /// <param name="exporterExpression">An exporter that takes memory files (<see cref="IMemoryFileExporter"/>), for example "udmabuf"; without options.</param>
    /// <param name="name">A name for the buffer, for messages.</param>
    /// <param name="ranges">See <see cref="IMemoryFileExporter.Export"/>.</param>
    /// <returns>The buffer; the caller disposes it, or the host does when it stops.</returns>
    /// <exception cref="DmaBufIoException">
    /// A broken expression, an unknown exporter, a wrong range (<c>EINVAL</c>), or an exporter that takes no memory files (<c>EOPNOTSUPP</c>).
    /// </exception>
    public ExportedBuffer CreateBuffer(string exporterExpression, string name, IReadOnlyList<MemoryFileRange> ranges)
    {
        ThrowIfNotStarted();
        return CreateBuffer(exporterExpression, name, (factory, parsed) =>
        {
            parsed.AllowOnly();
            parsed.AllowNoText();
            return factory is IMemoryFileExporter exporter
                ? exporter.Export(name, ranges)
                : throw new DmaBufIoException(Errno.EOPNOTSUPP, "Hosting", $"buffer {name}", $"exporter '{parsed.Word}' makes no buffers of memory files", "Use an exporter that does, for example udmabuf");
        });
    }

    private ExportedBuffer CreateBuffer(string exporterExpression, string name, Func<IExporterFactory, DeviceExpression, DmaBufs.DmaBuf> make)
    {
        DeviceExpression parsed = new ExpressionParser(Plugins.DeviceWords, Plugins.ExporterWords).ParseExporter(exporterExpression);
        if (Plugins.Find(p => p.Exporter(parsed.Word)) is not var (factory, use))
            throw parsed.Broken(
                parsed.Position,
                $"'{parsed.Word}' is not a known exporter",
                ExpressionParser.Known("exporters", Plugins.ExporterWords));

        // The use spans the plugin's code; from then on the buffer itself is what keeps the plugin.
        using (use)
        {
            DmaBufs.DmaBuf made = make(factory, parsed);
            Plugins.AddBuffer(use.Plugin, made);
            var buffer = new ExportedBuffer(parsed, use.Plugin.Status.Name, made, factory, Dropped);
            Add(_buffers, buffer);
            _logger.BufferCreated(name, made.Size, exporterExpression);
            return buffer;
        }
    }

    private void Add<T>(List<T> opened, T thing)
        where T : IDisposable
    {
        lock (_lock)
        {
            if (!_disposed)
            {
                opened.Add(thing);
                return;
            }
        }

        thing.Dispose();
        throw new ObjectDisposedException(nameof(DmaBufIoHost), "The host was disposed while this was being opened.");
    }

    private void Closed(OpenedDevice device)
    {
        lock (_lock)
            _devices.Remove(device);
        _progress.WakeAll();
        _logger.DeviceClosed(device.Name);
        TryAgain();
    }

    private void Dropped(ExportedBuffer buffer)
    {
        lock (_lock)
            _buffers.Remove(buffer);
        _logger.BufferDropped(buffer.Name);
        TryAgain();
    }
}
