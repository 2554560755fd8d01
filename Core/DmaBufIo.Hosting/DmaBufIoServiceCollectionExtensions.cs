using DmaBufIo.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Adds the framework to an application on the generic host.</summary>
public static class DmaBufIoServiceCollectionExtensions
{
    /// <summary>
    /// Registers <see cref="DmaBufIoHost"/> as a singleton that starts with the application, before its hosted services (plugins are loaded, wrong options fail), and stops with it, after them:
    /// requests in flight end by themselves as long as there is time, then devices close, newest first, then buffers. Further calls add to the options. The application's configuration section
    /// <c>DmaBufIo</c> is applied before the code.
    /// </summary>
    /// <param name="services">The application's services.</param>
    /// <param name="configure">The application's choices, or null.</param>
    /// <returns>The services.</returns>
    public static IServiceCollection AddDmaBufIo(this IServiceCollection services, Action<DmaBufIoOptions>? configure = null)
    {
        services.AddLogging();
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IConfigureOptions<DmaBufIoOptions>, ConfigureFromSection>());
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<DmaBufIoOptions>, OptionsValidator>());
        OptionsBuilder<DmaBufIoOptions> options = services.AddOptions<DmaBufIoOptions>().ValidateOnStart();
        if (configure is not null)
            options.Configure(configure);
        services.TryAddSingleton(static provider => new DmaBufIoHost(
            provider.GetRequiredService<IOptions<DmaBufIoOptions>>().Value,
            provider.GetRequiredService<ILoggerFactory>(),
            provider.GetService<IConfiguration>() ?? new ConfigurationBuilder().Build(),
            provider));
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IHostedService, DmaBufIoHostedService>());
        return services;
    }
}
