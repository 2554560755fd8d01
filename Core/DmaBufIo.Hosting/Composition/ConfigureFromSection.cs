using System.Globalization;
using DmaBufIo.Errors;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;

namespace DmaBufIo.Hosting;

/// <summary>
/// Applies the configuration section to the options. By hand: the general binder's messages tell neither the values allowed nor the remedy.
/// </summary>
internal sealed class ConfigureFromSection(IConfiguration? configuration = null) : IConfigureOptions<DmaBufIoOptions>
{
    private static readonly string[] s_keys =
    [
        nameof(DmaBufIoOptions.PluginFolder),
        nameof(DmaBufIoOptions.LoadPluginFolder),
        nameof(DmaBufIoOptions.NonCollectiblePlugins),
        nameof(DmaBufIoOptions.Iommu),
        nameof(DmaBufIoOptions.Invalidation),
        nameof(DmaBufIoOptions.TransferPolicy),
        nameof(DmaBufIoOptions.RequestTimeout),
        nameof(DmaBufIoOptions.HotReload),
        nameof(DmaBufIoOptions.SharedAssemblies),
        "Plugins", // each plugin's own
    ];

    private static readonly string[] s_reloadKeys = [nameof(HotReloadOptions.EnableHotReload), nameof(HotReloadOptions.ReloadDelay), nameof(HotReloadOptions.UnloadPolicy), nameof(HotReloadOptions.DrainTimeout)];

    public void Configure(DmaBufIoOptions options)
    {
        if (configuration?.GetSection(DmaBufIoOptions.SectionName) is not IConfigurationSection section)
            return;
        CheckKeys(section, s_keys);
        options.PluginFolder = section[nameof(DmaBufIoOptions.PluginFolder)] ?? options.PluginFolder;
        options.LoadPluginFolder = Switch(section, nameof(DmaBufIoOptions.LoadPluginFolder), options.LoadPluginFolder);
        options.NonCollectiblePlugins = Switch(section, nameof(DmaBufIoOptions.NonCollectiblePlugins), options.NonCollectiblePlugins);
        options.Iommu = Choice(section, nameof(DmaBufIoOptions.Iommu), options.Iommu);
        options.Invalidation = Choice(section, nameof(DmaBufIoOptions.Invalidation), options.Invalidation);
        options.TransferPolicy = Choice(section, nameof(DmaBufIoOptions.TransferPolicy), options.TransferPolicy);
        options.RequestTimeout = Span(section, nameof(DmaBufIoOptions.RequestTimeout), options.RequestTimeout);
        IConfigurationSection reload = section.GetSection(nameof(DmaBufIoOptions.HotReload));
        CheckKeys(reload, s_reloadKeys);
        HotReloadOptions hot = options.HotReload;
        hot.EnableHotReload = Switch(reload, nameof(hot.EnableHotReload), hot.EnableHotReload);
        hot.ReloadDelay = Span(reload, nameof(hot.ReloadDelay), hot.ReloadDelay);
        hot.UnloadPolicy = Choice(reload, nameof(hot.UnloadPolicy), hot.UnloadPolicy);
        hot.DrainTimeout = Span(reload, nameof(hot.DrainTimeout), hot.DrainTimeout);
        foreach (IConfigurationSection shared in section.GetSection(nameof(DmaBufIoOptions.SharedAssemblies)).GetChildren())
        {
            if (shared.Value is string name)
                options.SharedAssemblies.Add(name);
        }
    }

    // A key that is misspelt would leave its option as it is, and nobody would know.
    private static void CheckKeys(IConfigurationSection section, string[] known)
    {
        foreach (IConfigurationSection child in section.GetChildren())
        {
            if (!known.Contains(child.Key, StringComparer.OrdinalIgnoreCase))
                throw new DmaBufIoException(Errno.EINVAL, "Hosting", $"configuration key {child.Path}", "there is no such key", $"Write one of: {string.Join(", ", known)}");
        }
    }

    private static bool Switch(IConfigurationSection section, string key, bool fallback) => section[key] is not string text ? fallback
        : bool.TryParse(text, out bool value) ? value
        : throw Wrong(section, key, text, ["true", "false"]);

    private static TimeSpan Span(IConfigurationSection section, string key, TimeSpan fallback) => section[key] is not string text ? fallback
        : text.Equals("infinite", StringComparison.OrdinalIgnoreCase) ? Timeout.InfiniteTimeSpan
        : text.Contains(':', StringComparison.Ordinal) && TimeSpan.TryParseExact(text, "c", CultureInfo.InvariantCulture, out TimeSpan value) ? value // a bare number would be days
        : throw Wrong(section, key, text, ["a time as 00:00:30", "infinite"]);

    private static T Choice<T>(IConfigurationSection section, string key, T fallback)
        where T : struct, Enum
    {
        if (section[key] is not string text)
            return fallback;

        // By name only: a number would be taken for any value, defined or not.
        string? name = Enum.GetNames<T>().FirstOrDefault(n => n.Equals(text, StringComparison.OrdinalIgnoreCase));
        return name is not null ? Enum.Parse<T>(name) : throw Wrong(
            section,
            key,
            text,
            [.. Enum.GetNames<T>().Select(static n => n.ToLowerInvariant())]);
    }

    private static DmaBufIoException Wrong(IConfigurationSection section, string key, string value, string[] known) =>
        new(
            Errno.EINVAL,
            "Hosting",
            $"configuration key {section.Path}:{key}",
            $"'{value}' is not one of its values",
            $"Write one of: {string.Join(", ", known)}");
}
