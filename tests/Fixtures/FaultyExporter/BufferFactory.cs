using System.Security.Cryptography;
using DmaBufIo.DmaBufs;
using DmaBufIo.Errors;
using DmaBufIo.Plugins;

namespace DmaBufIo.Fixtures.FaultyExporter;

/// <summary>Makes buffers, moves them and takes jobs on them. The engines are the factory's, and end with it.</summary>
internal sealed class BufferFactory(Fault fault) : IExporterFactory, IMovableBuffers, IComputeBuffers, IDisposable
{
    private readonly Engines _engines = new(fault);

    public string Word => "faulty";

    public bool CanMove => !fault.Is("says-it-cannot-move");

    public DmaBuf Create(DeviceExpression expression, string name, long size)
    {
        if (!fault.Is("ignores-options"))
        {
            expression.AllowOnly("slow", "mover");
            expression.AllowNoText();
        }

        OwnedBuffer made = OwnedBuffer.Create(name, size, fault);
        made.Slow = (int)expression.Size("slow", 0);
        made.HasMover = expression.Switch("mover", false);
        return made.Buffer;
    }

    public InvalidationReport Move(DmaBuf buffer, CancellationToken cancellationToken = default) => fault.Is("moves-on-the-engine")
        ? _engines.MoveThere(Own(buffer))
        : Own(buffer).HasMover ? Mover.Move(Own(buffer), cancellationToken) : Own(buffer).Move(cancellationToken);

    public IComputeJob Fill(DmaBuf buffer, long offset, long length, byte value)
    {
        OwnedBuffer filled = Own(buffer);
        Check(filled, offset, length);
        return _engines.Submit([new JobBuffer(filled, Writes: true)], places =>
        {
            places[0].Each(offset, length, (piece, _) => piece.Fill(value));
            return [];
        });
    }

    public IComputeJob Hash(DmaBuf buffer, long offset, long length)
    {
        OwnedBuffer hashed = Own(buffer);
        Check(hashed, offset, length);
        return _engines.Submit([new JobBuffer(hashed, Writes: false)], places =>
        {
            if (fault.Is("remembers-what-it-read") && hashed.Remembered is { } remembered && remembered.Offset == offset && remembered.Length == length)
                return remembered.Hash;
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            places[0].Each(offset, length, (piece, _) => hash.AppendData(piece));
            byte[] answer = hash.GetHashAndReset();
            hashed.Remembered = (offset, length, answer);
            return answer;
        });
    }

    public IComputeJob Copy(DmaBuf source, long sourceOffset, DmaBuf destination, long destinationOffset, long length)
    {
        OwnedBuffer from = Own(source);
        OwnedBuffer to = Own(destination);
        Check(from, sourceOffset, length);
        Check(to, destinationOffset, length);
        bool isOne = ReferenceEquals(from, to);
        JobBuffer[] buffers = isOne ? [new JobBuffer(from, Writes: true)] : [new JobBuffer(from, Writes: false), new JobBuffer(to, Writes: true)];
        return _engines.Submit(buffers, places =>
        {
            places[^1].Each(destinationOffset, length, (piece, done) => places[0].CopyTo(sourceOffset + done, piece));
            return [];
        });
    }

    public void Dispose() => _engines.Dispose();

    private static OwnedBuffer Own(DmaBuf buffer) => buffer.Exporter as OwnedBuffer
        ?? throw new DmaBufIoException(Errno.EINVAL, "faulty", buffer.Name, "the buffer is not one of this exporter's", "Use a buffer that it has made");

    private void Check(OwnedBuffer buffer, long offset, long length)
    {
        if (offset >= 0 && length >= 0 && offset <= buffer.Buffer.Size - length)
            return;
        if (fault.Is("publishes-before-it-checks"))
            buffer.LeaveFence();
        throw new DmaBufIoException(Errno.EFAULT, "faulty", buffer.Buffer.Name, $"the range leaves the buffer of {buffer.Buffer.Size} bytes", "Name a range inside the buffer", range: $"{offset}+{length}", rule: "R2");
    }
}
