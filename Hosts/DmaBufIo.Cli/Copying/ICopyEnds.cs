using DmaBufIo.Hosting;
using DmaBufIo.Plugins;

namespace DmaBufIo.Cli.Copying;

/// <summary>What is copied from.</summary>
internal interface ICopySource
{
    /// <summary>What is opened.</summary>
    DeviceExpression Expression { get; }

    /// <summary>Bytes to copy, once the device is open.</summary>
    long SizeOf(OpenedDevice device);

    /// <summary>SHA-256 of the bytes that were to be copied, read anew. The device is closed.</summary>
    string Hash(long size, CancellationToken cancellationToken);
}

/// <summary>What is copied to. Disposing removes what is not complete, unless it is to be kept.</summary>
internal interface ICopyDestination : IDisposable
{
    /// <summary>What is opened.</summary>
    DeviceExpression Expression { get; }

    /// <summary>A name for the progress line.</summary>
    string Label { get; }

    /// <summary>True when it is written where it is; false when it takes its place at the end.</summary>
    bool IsInPlace { get; }

    /// <summary>The device is open: it may have written to what it stands on.</summary>
    void Opened();

    /// <summary>Everything is written and flushed, and the device is closed.</summary>
    void Complete();

    /// <summary>SHA-256 of what arrived, read anew.</summary>
    string Hash(CancellationToken cancellationToken);

    /// <summary>What was written is right.</summary>
    void Publish();
}
