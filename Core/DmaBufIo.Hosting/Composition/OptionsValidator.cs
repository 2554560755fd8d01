using Microsoft.Extensions.Options;

namespace DmaBufIo.Hosting;

/// <summary>Finds what is wrong with the options before anything is started with them.</summary>
internal sealed class OptionsValidator : IValidateOptions<DmaBufIoOptions>
{
    public ValidateOptionsResult Validate(string? name, DmaBufIoOptions options)
    {
        var failures = new List<string>();
        if (options.LoadPluginFolder && string.IsNullOrWhiteSpace(options.PluginFolder))
            failures.Add($"{nameof(DmaBufIoOptions.PluginFolder)} is empty: name a folder, or switch {nameof(DmaBufIoOptions.LoadPluginFolder)} off");
        if (!Enum.IsDefined(options.Iommu))
            failures.Add($"{nameof(DmaBufIoOptions.Iommu)} is {options.Iommu}: choose one of {string.Join(", ", Enum.GetNames<IommuPolicy>())}");
        if (!Enum.IsDefined(options.Invalidation))
            failures.Add($"{nameof(DmaBufIoOptions.Invalidation)} is {options.Invalidation}: choose one of {string.Join(", ", Enum.GetNames<Tokens.InvalidationDesign>())}");
        if (options.AssemblyLoader is null)
            failures.Add($"{nameof(DmaBufIoOptions.AssemblyLoader)} is null: leave the default, or give a function that makes a loader");
        foreach (string shared in options.SharedAssemblies)
        {
            if (string.IsNullOrWhiteSpace(shared) || shared.EndsWith(".dll", StringComparison.OrdinalIgnoreCase))
                failures.Add($"{nameof(DmaBufIoOptions.SharedAssemblies)} holds '{shared}': write the simple name of an assembly, without a path and without .dll");
        }

        return failures.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(failures);
    }
}
