using DmaBufIo.Block;
using DmaBufIo.Files;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.FaultyFile;

/// <summary>
/// A correct file whose bytes lie in stripes on its disks, behind a header, by the word <c>striped:NAME@(A,…)</c>; with the setting <c>fault</c> it makes one mistake.
/// </summary>
public sealed class FaultyFilePlugin : IDmaBufIoPlugin
{
    public PluginInfo Info { get; } = new("faulty-file", new Version(1, 0), "Files in stripes behind a header", PluginKinds.Importer)
    {
        Words = ["striped"],
        Options = [new PluginOption("align", "a size", "that of the disks", "alignment of memory"), new PluginOption("block", "a size", "that of the disks", "its block"), new PluginOption("flushes", "on or off", "off", "flushes one disk after the other, the last one first")],
    };

    public void Register(IServiceCollection services, IConfiguration options) => services.AddSingleton<IFileFactory>(_ => new FileFactory(new Fault(options["fault"])));
}

/// <summary>The mistake that is made; none when the setting is not given.</summary>
internal sealed class Fault(string? name)
{
    internal bool Is(string fault) => name == fault;
}

/// <summary>Opens the files.</summary>
internal sealed class FileFactory(Fault fault) : IFileFactory
{
    public string Word => "striped";

    public IoFile Open(DeviceExpression expression, IReadOnlyList<BlockDevice> members, OpenFlags flags)
    {
        expression.AllowOnly("align", "block", "flushes");
        if (string.IsNullOrEmpty(expression.Text) || members.Count == 0)
            throw expression.Broken(expression.Position, "'striped' needs a name and disks", "Write for example striped:data@(A,B)");
        return new StripedFile(expression.Text, members, flags, fault) { Alignment = (int)expression.Size("align", 1), Block = (int)expression.Size("block", 1), FlushesInTurn = expression.Switch("flushes", false) };
    }

    public long MemberCapacity(DeviceExpression expression, long size)
    {
        int members = Math.Max(1, expression.Members.Count);
        return StripedFile.Header + (((size / members) + StripedFile.Stripe + 4095) & -4096);
    }
}
