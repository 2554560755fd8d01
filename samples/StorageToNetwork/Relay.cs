using System.Security.Cryptography;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Plugins;
using DmaBufIo.Rdma;
using DmaBufIo.Rings;

namespace StorageToNetwork;

/// <summary>The way of the file: drive, GPU, network card, network card, drive. A buffer of the GPU at the one end, one of another GPU at the other, each cut into pieces of one message.</summary>
internal sealed class Relay : IDisposable
{
    private const int Message = 128 << 10;
    private const int Pieces = 8;

    // Slots of the ring: which buffer goes through which file.
    private const int FromDrive = 0;
    private const int ToNetwork = 1;
    private const int FromNetwork = 2;
    private const int ToDrive = 3;

    private readonly Stack<IDisposable> _open = new();
    private readonly Ring _ring;
    private readonly List<IoFile> _files = [];
    private readonly List<RdmaQueuePair> _pairs = [];
    private readonly RemovedBuffer?[] _removed = new RemovedBuffer?[4];
    private readonly ExportedBuffer _near;
    private readonly long _size;
    private readonly RingCompletion[] _completions = new RingCompletion[2 * Pieces];

    internal Relay(DmaBufIoHost host, string source, string destination, long size)
    {
        _size = size;
        try
        {
            OpenedDevice sourceDrive = Open(host.Open($"nvme:{Quoted(source)}", readOnly: true));
            OpenedDevice destinationDrive = Open(host.Open($"nvme:{Quoted(destination)},size={Math.Max(size, 1)}"));
            OpenedDevice left = Open(host.Open("rnic:left"));
            OpenedDevice right = Open(host.Open("rnic:right"));
            _near = Open(host.CreateBuffer("gpu:near,vram=16M", "near", Message * Pieces));
            ExportedBuffer far = Open(host.CreateBuffer("gpu:far,vram=16M", "far", Message * Pieces));
            RdmaQueuePair sender = Open(left.RdmaDevice.CreateQueuePair());
            RdmaQueuePair receiver = Open(right.RdmaDevice.CreateQueuePair());
            sender.Connect(receiver.Address);
            receiver.Connect(sender.Address);
            _pairs.AddRange([sender, receiver]);
            _files.Add(sourceDrive.OpenFile(OpenFlags.Direct | OpenFlags.ReadOnly));
            _files.Add(sender.OpenFile());
            _files.Add(receiver.OpenFile());
            _files.Add(destinationDrive.OpenFile());
            _ring = new Ring(host.RingOptions with { Name = "relay", Entries = 4 * Pieces });
            for (int slot = 0; slot < 4; slot++)
                _ring.RegisterBuffer(slot, new BufferRegistration { Buffer = (slot < FromNetwork ? _near : far).Buffer, File = _files[slot], Direction = slot % 2 == 0 ? DmaDirection.FromDevice : DmaDirection.ToDevice });
        }
        catch
        {
            CloseAll();
            throw;
        }
    }

    // Commas, parentheses and quotes of a path are no grammar.
    private static string Quoted(string path) => $"\"{path.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";

    /// <summary>A file's hash, as the GPU makes it: SHA-256 of the SHA-256 of each buffer's worth of it.</summary>
    internal static byte[] HashOf(string path)
    {
        using FileStream file = File.OpenRead(path);
        using var whole = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] part = new byte[Message * Pieces];
        for (int read = file.ReadAtLeast(part, part.Length, throwOnEndOfStream: false); read > 0; read = file.ReadAtLeast(part, part.Length, throwOnEndOfStream: false))
            whole.AppendData(SHA256.HashData(part.AsSpan(0, read)));
        return whole.GetHashAndReset();
    }

    /// <summary>Moves everything.</summary>
    /// <returns>The hash of what went through the first GPU's memory, made there.</returns>
    /// <exception cref="DmaBufIoException">A request failed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; what is in flight ends when the relay is disposed.</exception>
    internal byte[] Run(CancellationToken cancellationToken)
    {
        using var whole = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (long done = 0; done < _size; done += Message * Pieces)
        {
            long[] offsets = [.. Enumerable.Range(0, Pieces).Select(i => done + ((long)i * Message)).Where(o => o < _size)];

            // Drive → GPU.
            Do(offsets, (piece, offset) => _ring.TryReadFixed(_files[FromDrive], FromDrive, piece * Message, Blocks(offset), offset, (ulong)offset), Blocks, cancellationToken);

            // What has been reaped is there for the GPU's jobs: they need no other order.
            IComputeJob job = _near.Compute!.Hash(_near.Buffer, 0, Math.Min(_size - done, Message * Pieces));

            // GPU → network → the other GPU: receives first, then sends; the cards wait for the job where they have to.
            Do(
                [.. offsets, .. offsets],
                (index, offset) => index < offsets.Length
                    ? _ring.TryReadFixed(_files[FromNetwork], FromNetwork, index * Message, Message, 0, (ulong)offset)
                    : _ring.TryWriteFixed(_files[ToNetwork], ToNetwork, (index - offsets.Length) * Message, Blocks(offset), 0, (ulong)offset),
                Blocks,
                cancellationToken);

            // The other GPU → drive.
            Do(offsets, (piece, offset) => _ring.TryWriteFixed(_files[ToDrive], ToDrive, piece * Message, Blocks(offset), offset, (ulong)offset), Blocks, cancellationToken);
            Errno status = job.Fence.Wait(cancellationToken);
            cancellationToken.ThrowIfCancellationRequested();
            if (status != Errno.Ok)
                throw new DmaBufIoException(status, "sample", "relay", $"the GPU did not hash what lies at {done}", "See what the GPU says");
            whole.AppendData(job.Result.Span);
        }

        Do([0], (_, _) => _ring.TryFlush(_files[ToDrive], 0), static _ => 0, cancellationToken);
        return whole.GetHashAndReset();
    }

    public void Dispose() => CloseAll();

    /// <summary>Whole blocks of the drives that hold the data of a piece.</summary>
    private long Blocks(long offset)
    {
        int block = Math.Max(_files[FromDrive].BlockSize, _files[ToDrive].BlockSize);
        long data = Math.Min(Message, _size - offset);
        return (data + block - 1) / block * block;
    }

    private void Do(long[] offsets, Func<int, long, bool> prepare, Func<long, long> length, CancellationToken cancellationToken)
    {
        for (int i = 0; i < offsets.Length; i++)
        {
            if (!prepare(i, offsets[i]))
                throw new InvalidOperationException("The ring has no room for what this program keeps in flight.");
        }

        _ring.Submit();
        for (int left = offsets.Length; left > 0;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int count = _ring.Reap(_completions, 1, cancellationToken);
            foreach (RingCompletion completion in _completions.AsSpan(0, count))
            {
                if (completion.Status != Errno.Ok || completion.Bytes != length((long)completion.UserData))
                    throw new DmaBufIoException(completion.Status == Errno.Ok ? Errno.EIO : completion.Status, "sample", "relay", $"a request at {completion.UserData} moved {completion.Bytes} bytes", "See what the device says");
            }

            left -= count;
        }
    }

    private T Open<T>(T opened)
        where T : IDisposable
    {
        _open.Push(opened);
        return opened;
    }

    private void CloseAll()
    {
        // A receive waits for its message for ever: the connection ends before the ring does.
        foreach (RdmaQueuePair pair in _pairs)
            pair.Disconnect();
        for (int slot = 0; _ring is not null && slot < 4; slot++)
            _removed[slot] = _ring.MappingAt(slot) is null ? null : _ring.RemoveBuffer(slot);
        _ring?.Dispose();
        foreach (RemovedBuffer? removed in _removed)
            removed?.WaitReleased();
        foreach (IoFile file in _files)
            file.Put();
        while (_open.TryPop(out IDisposable? opened))
            opened.Dispose();
    }
}
