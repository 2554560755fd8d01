using System.Reflection;

namespace DmaBufIo.Packages.Tests;

/// <summary>The build that these tests are part of.</summary>
internal static class Build
{
    /// <summary>The repository's root, without a slash at its end.</summary>
    internal static string RepositoryRoot { get; } = Path.TrimEndingDirectorySeparator(Metadata("RepositoryRoot"));

    /// <summary>Where this machine keeps the packages that it has restored. A folder of packages is a source, too: nothing has to come over the network.</summary>
    internal static string PackageFolder { get; } = Path.TrimEndingDirectorySeparator(Metadata("NuGetPackageRoot"));

    internal static string Configuration { get; } = Metadata("Configuration");

    /// <summary>The version of this release.</summary>
    internal static string Version { get; } = Metadata("Version");

    private static string Metadata(string key) =>
        typeof(Build).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == key).Value!;
}
