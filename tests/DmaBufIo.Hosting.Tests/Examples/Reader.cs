using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Files;
using DmaBufIo.Hosting;
using DmaBufIo.Rings;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Tests.Examples;

// <example>
internal sealed class Reader(DmaBufIoHost host, IConfiguration configuration, ILogger<Reader> logger) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using OpenedDevice device = host.Open(configuration["Device"]!, readOnly: true);
        using ExportedBuffer buffer = host.CreateBuffer("moving", "reader", 1 << 20);
        IoFile file = device.OpenFile(OpenFlags.Direct | OpenFlags.ReadOnly);
        using (var ring = new Ring(host.RingOptions with { Name = "reader", DriverThread = true }))
        {
            ring.RegisterBuffer(0, new BufferRegistration { Buffer = buffer.Buffer, File = file, Direction = DmaDirection.FromDevice });
            long read = 0;
            IoStatus status = default;
            while (read < file.Size && status.Status == Errno.Ok)
            {
                status = await ring.ReadFixedAsync(file, slot: 0, bufferOffset: 0, length: 4096, fileOffset: read, stoppingToken);
                read += status.Bytes;
            }

            logger.LogInformation("Read {Read} bytes, the last request ended with {Status}", read, status.Status);
        }

        file.Put(); // before the device closes
    }
}
// </example>
