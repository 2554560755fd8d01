using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Hosting.Topology;
using DmaBufIo.Native;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using DmaBufIo.Rdma;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Hosting;

/// <summary>Opens expressions: makes functions, finds their drivers, stacks devices on devices.</summary>
internal sealed class DeviceTree(PluginManager plugins, ILogger logger)
{
    // Class 01h subclass 08h of the PCI code and ID assignment: non-volatile memory.
    private const int NonVolatileMemory = 0x0108;

    private readonly DeviceNames _names = new();

    /// <summary>Opens a tree. On failure what was opened is closed again, in reverse order.</summary>
    internal DeviceNode Open(DeviceExpression expression, bool readOnly, OwnedStack owned)
    {
        try
        {
            CheckFilesApart(expression, new Dictionary<FileIdentity, string>());
            return OpenNode(expression, readOnly, owned);
        }
        catch (Exception e)
        {
            try
            {
                owned.Dispose();
            }
            catch (Exception undo)
            {
                throw new AggregateException("Opening a device failed, and so did closing what had been opened for it.", e, undo);
            }

            throw;
        }
    }

    private DeviceNode OpenNode(DeviceExpression expression, bool readOnly, OwnedStack owned)
    {
        if (plugins.Find(p => p.Function(expression.Word)) is var (functions, functionUse))
        {
            owned.Push(functionUse);
            return OpenFunction(expression, readOnly, functions, functionUse.Plugin, owned);
        }

        if (plugins.Find(p => p.BlockDevice(expression.Word)) is var (devices, deviceUse))
        {
            owned.Push(deviceUse);
            return OpenStacked(expression, readOnly, devices, deviceUse.Plugin, owned);
        }

        if (plugins.Find(p => p.File(expression.Word)) is var (files, fileUse))
        {
            owned.Push(fileUse);
            List<DeviceNode> members = OpenMembers(expression, readOnly, owned);
            BlockDevice[] under = [.. members.Select(static m => m.BlockDevices[0])];
            return new DeviceNode(expression, expression.Text ?? expression.Word, expression.Word, [fileUse.Plugin.Status.Name], [], members)
                .OpenedBy(flags => files.Open(expression, under, flags));
        }

        if (plugins.Find(p => p.RdmaDevice(expression.Word)) is var (cards, cardUse))
        {
            owned.Push(cardUse);
            if (expression.Members.Count != 0)
                throw expression.Broken(expression.Members[0].Position, $"'{expression.Word}' stands on no other device", "Remove the parentheses");
            RdmaDevice card = owned.Push(cards.Create(expression));
            return new DeviceNode(expression, card.Name, expression.Word, [cardUse.Plugin.Status.Name], [], []).Over(card);
        }

        throw expression.Broken(expression.Position, NotKnown(expression), ExpressionParser.Known("devices", plugins.DeviceWords));
    }

    // What is no word is a path, and a path stands for a device of its own: who has misspelt a word did not write that one.
    private static string NotKnown(DeviceExpression expression)
    {
        string problem = $"'{expression.Word}' is not a known device";
        if (expression.Word != ExpressionParser.PathWord || expression.Text is not { } path || expression.Source[expression.Position..] is var written && written.StartsWith(ExpressionParser.PathWord, StringComparison.Ordinal))
            return problem;
        int end = ExpressionReader.WordEnd(path, 0);
        bool isLikeAWord = end > 0 && (end == path.Length || path[end] is ':' or '(' or ',');
        return isLikeAWord ? $"'{path[..end]}' is not a known device; as a path it stands for {expression.Word}:{path}, and {problem}" : $"a path stands for {expression.Word}:{path}, and {problem}";
    }

    /// <summary>Before anything is opened: two members on one file would write over each other, whatever links lead to it.</summary>
    private void CheckFilesApart(DeviceExpression expression, Dictionary<FileIdentity, string> seen)
    {
        if (plugins.Find(p => p.Function(expression.Word)) is var (functions, use))
        {
            using (use)
            {
                if (functions.BackingFile(expression) is { } path
                    && FileStatus.Of(path, out FileStatus found) == Errno.Ok
                    && !seen.TryAdd(found.Identity, path))
                    throw expression.Broken(expression.Position, $"{path} is the same file as {seen[found.Identity]}", "Name each file once; links to one file count as one");
            }
        }

        foreach (DeviceExpression member in expression.Members)
            CheckFilesApart(member, seen);
    }

    private DeviceNode OpenFunction(
        DeviceExpression expression,
        bool readOnly,
        IPciFunctionFactory factory,
        LoadedPlugin maker,
        OwnedStack owned)
    {
        if (expression.Members.Count != 0)
            throw expression.Broken(
                expression.Members[0].Position,
                $"'{expression.Word}' stands on no other device",
                "Remove the parentheses, or put a text with parentheses in double quotes");

        Handover<PciFunction> function = owned.Push(new Handover<PciFunction>(factory.Create(expression, readOnly)));
        (IPciDriver driver, PluginUse use) = FindDriver(function.Value);
        bool isForeign = !ReferenceEquals(use.Plugin, maker);
        if (isForeign)
            owned.Push(use);
        else
            use.Dispose();

        string prefix = function.Value.Identity.ClassCode >> 8 == NonVolatileMemory ? "nvme" : expression.Word;
        DeviceNames.Name name = owned.Push(_names.Take(prefix));
        IPciBinding binding = owned.Push(driver.Probe(function.Value, name.Text));
        function.Release();
        string[] names = isForeign ? [maker.Status.Name, use.Plugin.Status.Name] : [maker.Status.Name];
        return new DeviceNode(expression, name.Text, driver.Name, names, binding.BlockDevices, []).BoundTo(function.Value, binding);
    }

    /// <summary>The first driver in load order that wants the function, with a use of its plugin that the caller ends.</summary>
    private (IPciDriver Driver, PluginUse Use) FindDriver(PciFunction function)
    {
        PciIdentity identity = function.Identity;
        var unused = new OwnedStack();
        (IPciDriver Driver, PluginUse Use)? chosen = null;
        try
        {
            IReadOnlyList<(IPciDriver Driver, PluginUse Use)> all = plugins.Drivers();
            foreach ((_, PluginUse use) in all)
                unused.Push(use);
            foreach ((IPciDriver driver, PluginUse use) in all)
            {
                if (!driver.Matches(identity))
                    continue;
                if (chosen is null)
                    chosen = use.Plugin.IsDraining ? throw PluginManager.IsLeaving(use.Plugin) : (driver, use.Again());
                else
                    logger.DriverPassedOver(function.Name, chosen.Value.Driver.Name, driver.Name);
            }

            if (chosen is not null)
                return chosen.Value;
            string known = all.Count == 0
                ? "no driver is loaded"
                : $"loaded drivers: {string.Join(", ", all.Select(static d => d.Driver.Name))}";
            throw new DmaBufIoException(
                Errno.ENODEV,
                "Topology",
                function.Name,
                $"no driver matches vendor {identity.Vendor:x4} device {identity.Device:x4} class {identity.ClassCode:x6}",
                $"Load a plugin with a driver for it; {known}");
        }
        catch
        {
            chosen?.Use.Dispose(); // a driver of somebody else's threw when it was asked
            throw;
        }
        finally
        {
            unused.Dispose();
        }
    }

    private DeviceNode OpenStacked(
        DeviceExpression expression,
        bool readOnly,
        IBlockDeviceFactory factory,
        LoadedPlugin maker,
        OwnedStack owned)
    {
        List<DeviceNode> members = OpenMembers(expression, readOnly, owned, factory.TakesAbsentMembers);
        BlockDevice device = factory.Create(expression, [.. members.Select(static m => m.BlockDevices[0])]);
        if (device is IDisposable disposable)
            owned.Push(disposable);
        return new DeviceNode(expression, device.Name, expression.Word, [maker.Status.Name], [], members).Being(device);
    }

    private List<DeviceNode> OpenMembers(DeviceExpression expression, bool readOnly, OwnedStack owned, bool absent = false)
    {
        var members = new List<DeviceNode>();
        DmaBufIoException? first = null;
        foreach (DeviceExpression member in expression.Members)
        {
            DeviceNode node;
            OwnedStack own = owned.Push(new OwnedStack());
            try
            {
                node = OpenNode(member, readOnly, own);
            }
            catch (DmaBufIoException e) when (absent && e.Errno is Errno.ENOENT or Errno.ENODEV or Errno.EIO)
            {
                first ??= e;
                LetGo(member, own);
                node = new DeviceNode(member, member.Brief, "absent", [], [new AbsentDevice(e)], []);
            }

            if (node.BlockDevices.Count != 1)
                throw member.Broken(
                    member.Position,
                    $"{node.Name} has {node.BlockDevices.Count} block devices, and a member is exactly one",
                    "Name a device with one namespace");
            members.Add(node);
        }

        // Without any of them there is nothing to go on with.
        if (first is not null && members.TrueForAll(static m => m.BlockDevices[0] is AbsentDevice))
            throw first;
        return members;
    }

    /// <summary>A member that is taken as absent holds nothing: neither what had been opened for it, nor its plugins.</summary>
    private void LetGo(DeviceExpression member, OwnedStack own)
    {
        try
        {
            own.Dispose();
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            // Everything was let go of all the same, and the set can do without it.
            logger.DeviceCloseFailed(member.Brief, e);
        }
    }
}
