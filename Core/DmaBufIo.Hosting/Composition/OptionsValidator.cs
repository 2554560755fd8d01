using Microsoft.Extensions.Options;

namespace DmaBufIo.Hosting;

/// <summary>Finds what is wrong with the options before anything is started with them.</summary>
internal sealed class OptionsValidator : IValidateOptions<DmaBufIoOptions>
{
    public ValidateOptionsResult Validate(string? name, DmaBufIoOptions options)
    {
        var failures = new List<string>();
        void Refuse(string option, string problem, string remedy) => failures.Add($"{option} {problem}: {remedy}");
        if (options.LoadPluginFolder && string.IsNullOrWhiteSpace(options.PluginFolder))
            Refuse(nameof(options.PluginFolder), "is empty", $"name a folder, or switch {nameof(options.LoadPluginFolder)} off");
        if (!Enum.IsDefined(options.Iommu))
            Refuse(nameof(options.Iommu), $"is {options.Iommu}", OneOf<IommuPolicy>());
        if (!Enum.IsDefined(options.Invalidation))
            Refuse(nameof(options.Invalidation), $"is {options.Invalidation}", OneOf<Tokens.InvalidationDesign>());
        if (!Enum.IsDefined(options.TransferPolicy))
            Refuse(nameof(options.TransferPolicy), $"is {options.TransferPolicy}", OneOf<Rings.TransferPolicy>());
        if (!(options.RequestTimeout == Timeout.InfiniteTimeSpan || IsTime(options.RequestTimeout)))
            Refuse(nameof(options.RequestTimeout), $"is {options.RequestTimeout}", ATime);
        if (options.TimeProvider is null)
            Refuse(nameof(options.TimeProvider), "is null", "leave the default, or give a clock");
        HotReloadOptions reload = options.HotReload;
        if (!Enum.IsDefined(reload.UnloadPolicy))
            Refuse($"{nameof(options.HotReload)}.{nameof(reload.UnloadPolicy)}", $"is {reload.UnloadPolicy}", OneOf<UnloadPolicy>());
        if (!IsTime(reload.ReloadDelay))
            Refuse($"{nameof(options.HotReload)}.{nameof(reload.ReloadDelay)}", $"is {reload.ReloadDelay}", "give a positive time");
        if (!(reload.DrainTimeout == Timeout.InfiniteTimeSpan || IsTime(reload.DrainTimeout)))
            Refuse($"{nameof(options.HotReload)}.{nameof(reload.DrainTimeout)}", $"is {reload.DrainTimeout}", ATime);
        if (reload.EnableHotReload && !options.LoadPluginFolder)
            Refuse($"{nameof(options.HotReload)}.{nameof(reload.EnableHotReload)}", "is true without a plugin folder", $"switch it off, or {nameof(options.LoadPluginFolder)} on");
        if (reload.EnableHotReload && options.NonCollectiblePlugins)
            Refuse(
                $"{nameof(options.HotReload)}.{nameof(reload.EnableHotReload)}",
                "is true for plugins that are loaded for good, so that memory grows with every reload",
                $"switch it off, or {nameof(options.NonCollectiblePlugins)}");
        if (options.AssemblyLoader is null)
            Refuse(nameof(options.AssemblyLoader), "is null", "leave the default, or give a function that makes a loader");
        foreach (string shared in options.SharedAssemblies)
        {
            if (string.IsNullOrWhiteSpace(shared) || shared.EndsWith(".dll", StringComparison.OrdinalIgnoreCase))
                Refuse(nameof(options.SharedAssemblies), $"holds '{shared}'", "write simple names of assemblies, without .dll");
        }

        return failures.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(failures);
    }

    private static string ATime => "give a positive time of up to 24 days, or Timeout.InfiniteTimeSpan";

    private static bool IsTime(TimeSpan time) => time > TimeSpan.Zero && time.TotalMilliseconds <= int.MaxValue;

    private static string OneOf<T>()
        where T : struct, Enum => $"choose one of {string.Join(", ", Enum.GetNames<T>())}";
}
