using DmaBufIo.Cli.Output;
using DmaBufIo.Errors;
using DmaBufIo.Hosting;
using DmaBufIo.Native;
using DmaBufIo.Plugins;
using Microsoft.Win32.SafeHandles;

namespace DmaBufIo.Cli.Copying;

/// <summary>
/// A set of devices, or a file on devices, as the destination. Member files that do not exist are made as large as the set needs them; those that exist are written in place. When the copy
/// fails, what was made is removed only where nothing was there before, unless it is to be kept: a file that has joined others may hold by then what they have lost.
/// </summary>
internal sealed class DeviceDestination : ICopyDestination
{
    private readonly DmaBufIoHost _host;
    private readonly long _size;
    private readonly bool _keepPartial;
    private readonly List<string> _made = [];
    private bool _hadFiles;
    private bool _wasOpened;
    private bool _finished;

    /// <summary>Makes the member files that are missing.</summary>
    /// <exception cref="DmaBufIoException">A member file is too small, or cannot be made.</exception>
    internal DeviceDestination(DmaBufIoHost host, DeviceExpression expression, long size, int lba, bool keepPartial)
    {
        _host = host;
        _size = size;
        _keepPartial = keepPartial;
        bool isFile = host.Plugins.FileWords.Contains(expression.Word, StringComparer.Ordinal);
        if (isFile && expression.Options.TryGetValue("size", out DeviceOption given))
            throw expression.Broken(given.NamePosition, "a copy takes the size from the source", "Leave the option size out");
        MemberMarks.Check(host, expression, []);
        try
        {
            Expression = EndFiles.WithBlock(MakeMembers(isFile ? EndFiles.With(expression, "size", $"{size}") : expression, size), lba);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public DeviceExpression Expression { get; }

    /// <inheritdoc/>
    public string Label => Expression.Word;

    /// <inheritdoc/>
    public bool IsInPlace => true;

    /// <inheritdoc/>
    public void Opened() => _wasOpened = true;

    /// <inheritdoc/>
    public void Complete()
    {
    }

    /// <inheritdoc/>
    public string Hash(CancellationToken cancellationToken) => ContentHash.OfDevice(_host, Expression, _size, cancellationToken);

    /// <inheritdoc/>
    public void Publish() => _finished = true;

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_finished || _keepPartial || _made.Count == 0)
            return;
        if (_hadFiles && (_wasOpened || _made.Exists(p => MemberMarks.MayBelong(_host, p))))
        {
            CommandOutput.Message($"warning: {string.Join(", ", _made)} stays: it was made for a set that was there, and may hold what that has lost");
            return;
        }

        foreach (string path in _made)
            File.Delete(path);
    }

    private DeviceExpression MakeMembers(DeviceExpression expression, long capacity)
    {
        if (EndFiles.IsFile(expression))
        {
            Make(Path.GetFullPath(expression.Text!), capacity);
            return expression;
        }

        if (expression.Members.Count == 0)
            return expression;
        long each = MemberMarks.CapacityIn(_host, expression) ?? _host.MemberCapacity(expression, Math.Max(1, capacity));
        return expression with { Members = [.. expression.Members.Select(m => MakeMembers(m, each))] };
    }

    private void Make(string path, long capacity)
    {
        if (EndFiles.Look("DST", path) is { } found)
        {
            _hadFiles |= !_made.Contains(path);
            if (found.Size < capacity)
                throw EndFiles.Refused(Errno.ENOSPC, "DST", path, $"it has {found.Size} bytes, and the set needs {capacity} of each member", "Make the file larger, or remove it to have it made");
            return;
        }

        try
        {
            using SafeFileHandle made = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write, FileShare.ReadWrite, FileOptions.None, capacity);
            _made.Add(path);
            RandomAccess.SetLength(made, capacity);
        }
        catch (UnauthorizedAccessException)
        {
            throw EndFiles.Refused(Errno.EACCES, "DST", path, "its folder may not be written", "Grant permission on the folder");
        }
        catch (DirectoryNotFoundException)
        {
            throw EndFiles.Refused(Errno.ENOENT, "DST", path, "its folder does not exist", "Create the folder first");
        }
        catch (IOException e)
        {
            throw EndFiles.Refused(Errno.ENOSPC, "DST", path, $"it cannot be created with {capacity} bytes: {e.Message.TrimEnd('.')}", "Free space, or name a file on another file system");
        }
    }
}
