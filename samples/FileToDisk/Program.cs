using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using FileToDisk;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

// The settings lie beside the program; relative paths in them start there.
Directory.SetCurrentDirectory(AppContext.BaseDirectory);
HostApplicationBuilder builder = Host.CreateApplicationBuilder(args);
builder.Services.AddDmaBufIo(static options =>
{
    options.UseFabric(static (_, settled) => new ModelIommu(new ModelIommuOptions { Mode = Enum.Parse<IommuMode>(settled.Iommu.ToString()) }));
    options.AddBuiltIn<ModelsPlugin>(); // the exporter "moving"
});
builder.Services.Configure<CopyOptions>(builder.Configuration.GetSection("Copy"));
builder.Services.AddSingleton<CopyJob>().AddHostedService<CopyService>();
await builder.Build().RunAsync();
