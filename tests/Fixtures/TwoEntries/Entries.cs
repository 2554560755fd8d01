using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace DmaBufIo.Fixtures.TwoEntries;

public sealed class FirstEntry : IDmaBufIoPlugin
{
    public PluginInfo Info => new("first", new Version(1, 0), "The first of two", PluginKinds.None);

    public void Register(IServiceCollection services, IConfiguration options)
    {
    }
}

public sealed class SecondEntry : IDmaBufIoPlugin
{
    public PluginInfo Info => new("second", new Version(1, 0), "The second of two", PluginKinds.None);

    public void Register(IServiceCollection services, IConfiguration options)
    {
    }
}
