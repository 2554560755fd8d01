using DmaBufIo.Errors;
using DmaBufIo.Models;
using DmaBufIo.Models.Iommu;
using FileToDisk;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

// The settings lie beside the program; relative paths in them start there. So does the folder of the drivers, which may be put there while the program runs.
Directory.SetCurrentDirectory(AppContext.BaseDirectory);
Directory.CreateDirectory("plugins");
HostApplicationBuilder builder = Host.CreateApplicationBuilder(args);
builder.Services.AddDmaBufIo(static options =>
{
    options.UseFabric(static (_, settled) => new ModelIommu(new ModelIommuOptions { Mode = Enum.Parse<IommuMode>(settled.Iommu.ToString()) }));
    options.AddBuiltIn<ModelsPlugin>(); // the exporter "moving"
});
builder.Services.AddOptions<CopyOptions>()
    .Bind(builder.Configuration.GetSection("Copy"))
    .Validate(static copy => copy is { File.Length: > 0, Device.Length: > 0, Exporter.Length: > 0 }, "Copy: File, Device and Exporter are needed. Set them in appsettings.json.")
    .ValidateOnStart();
builder.Services.AddSingleton<CopyJob>().AddHostedService<CopyService>();
try
{
    await builder.Build().RunAsync();
}
catch (Exception e) when (e is OptionsValidationException or DmaBufIoException)
{
    Console.Error.WriteLine($"error: {e.Message}"); // wrong settings
    Environment.ExitCode = 1;
}
