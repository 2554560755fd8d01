namespace DmaBufIo.Packages.Tests;

/// <summary>
/// Where strangers work: a feed with the packages of this build, a cache, and nothing else of the repository. Packages of others come from the folder in which this machine keeps what it has restored.
/// <code>
/// artifacts/packages   the feed
/// artifacts/stranger   who follows the tutorial
/// samples              a copy
/// </code>
/// </summary>
public sealed class Yard : IAsyncLifetime
{
    /// <summary>Versions of releases to come: one that goes with this one's plugins, one that does not.</summary>
    internal static readonly string[] OtherVersions = ["0.2.0", "1.0.0"];

    private readonly Dictionary<string, Task> _made = [];

    /// <summary>The yard's folder.</summary>
    internal string Root { get; } = Directory.CreateTempSubdirectory("dmabufio-packages-").FullName;

    internal string Feed => Path.Combine(Root, "artifacts", "packages");

    /// <summary>Commands on the repository itself, as whoever runs these tests would give them.</summary>
    internal Shell House => new(Build.RepositoryRoot, new Dictionary<string, string?>(Servers) { ["DOTNET_NOLOGO"] = "1" });

    // Build servers of the yard's own, which go with it: others on this machine neither lend theirs nor are given one that works in a folder that is gone.
    private Dictionary<string, string?> Servers => new() { ["MSBUILDNODEHANDSHAKESALT"] = Path.GetFileName(Root) };

    /// <summary>A package of the feed.</summary>
    internal string Package(string id) => Path.Combine(Feed, $"{id}.{Build.Version}.nupkg");

    /// <summary>A stranger in a folder of the yard, with a home of their own, so that templates and settings are theirs.</summary>
    internal Shell Stranger(string folder, string home = "home")
    {
        Directory.CreateDirectory(Path.Combine(Root, folder));
        return new(Path.Combine(Root, folder), new Dictionary<string, string?>(Servers)
        {
            ["NUGET_PACKAGES"] = Path.Combine(Root, "cache"),
            ["DOTNET_CLI_HOME"] = Directory.CreateDirectory(Path.Combine(Root, home)).FullName,
            ["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1",
            ["DOTNET_GENERATE_ASPNET_CERTIFICATE"] = "false",
            ["DOTNET_CLI_WORKLOAD_UPDATE_NOTIFY_DISABLE"] = "1",
            ["DOTNET_NOLOGO"] = "1",
        });
    }

    /// <summary>A stranger in a folder with the feed among its sources.</summary>
    internal Shell StrangerWithFeed(string folder, string home = "home")
    {
        Shell stranger = Stranger(folder, home);
        File.WriteAllText(Path.Combine(stranger.Folder, "nuget.config"), $"""<configuration><packageSources><add key="dmabufio" value="{Feed}" /></packageSources></configuration>""");
        return stranger;
    }

    /// <summary>A copy of samples, with what lies beside them, in a folder of the yard.</summary>
    internal void CopySamples(string folder, params IEnumerable<string> samples)
    {
        string source = Path.Combine(Build.RepositoryRoot, "samples");
        string target = Directory.CreateDirectory(Path.Combine(Root, folder)).FullName;
        foreach (string file in Directory.GetFiles(source).Where(f => Path.GetFileName(f) != "nuget.config" || !File.Exists(Path.Combine(target, "nuget.config"))))
            File.Copy(file, Path.Combine(target, Path.GetFileName(file)));
        foreach (string sample in samples)
            CopyFolder(Path.Combine(source, sample), Path.Combine(target, sample));
    }

    internal static void CopyFolder(string source, string target)
    {
        Directory.CreateDirectory(target);
        foreach (string file in Directory.GetFiles(source))
            File.Copy(file, Path.Combine(target, Path.GetFileName(file)));
        foreach (string below in Directory.GetDirectories(source).Where(static d => Path.GetFileName(d) is not ("bin" or "obj")))
            CopyFolder(below, Path.Combine(target, Path.GetFileName(below)));
    }

    /// <summary>
    /// Makes packages of versions to come, each built for that, with one public member more than this one has: <c>Ring.Later</c>.
    /// </summary>
    /// <returns>The feed with them.</returns>
    internal Task<string> PackOthersAsync() => OnceAsync("others", async () =>
    {
        string folder = Directory.CreateDirectory(Path.Combine(Root, "extra")).FullName;
        await File.WriteAllTextAsync(Path.Combine(folder, "Ring.Later.cs"), """
            namespace DmaBufIo.Rings;

            public sealed partial class Ring
            {
                /// <summary>Comes later.</summary>
                public string Later => Name;
            }
            """);
        await File.WriteAllTextAsync(Path.Combine(folder, "extra.targets"), """
            <Project>
              <ItemGroup Condition="'$(MSBuildProjectName)' == 'DmaBufIo.Core'">
                <Compile Include="$(MSBuildThisFileDirectory)Ring.Later.cs" />
              </ItemGroup>
            </Project>
            """);

        // Nothing is written beside the sources: others may be building there.
        foreach (string version in OtherVersions)
        {
            (await House.DotnetAsync(
                "pack", "Core/Packages.proj", "-c", Build.Configuration, "-o", Feed, "-p:PackOnly=DmaBufIo.Core%3BDmaBufIo.Hosting%3BDmaBufIo.Models", $"-p:Version={version}", $"-p:AssemblyVersion={version}.0",
                $"-p:ArtifactsPath={Root}/other", "-p:RunAnalyzers=false", "-p:EnablePackageValidation=false", $"-p:CustomAfterMicrosoftCommonTargets={folder}/extra.targets")).Succeeded();
        }

        return Feed;
    });

    /// <summary>Installs the templates for the strangers whose home is the usual one.</summary>
    internal Task InstallTemplatesAsync() => OnceAsync("templates", async () =>
        (await StrangerWithFeed("templates").DotnetAsync("new", "install", $"DmaBufIo.Templates@{Build.Version}")).Succeeded());

    /// <summary>Makes something the first time that a test asks for it. When that fails, all who ask fail.</summary>
    internal Task<T> OnceAsync<T>(string what, Func<Task<T>> make)
    {
        lock (_made)
        {
            if (!_made.TryGetValue(what, out Task? made))
                _made[what] = made = make();
            return (Task<T>)made;
        }
    }

    public async ValueTask InitializeAsync()
    {
        Directory.CreateDirectory(Feed);
        await File.WriteAllTextAsync(Path.Combine(Root, "NuGet.Config"), $"""
            <configuration>
              <packageSources>
                <clear />
                <add key="machine" value="{Build.PackageFolder}" />
              </packageSources>
              <packageSourceMapping>
                <packageSource key="machine"><package pattern="*" /></packageSource>
                <packageSource key="dmabufio"><package pattern="DmaBufIo.*" /></packageSource>
              </packageSourceMapping>
            </configuration>
            """);

        // What this test run has built, as it is. Not validated: that would leave its mark beside the sources.
        (await House.DotnetAsync("pack", "Core/Packages.proj", "--no-build", "-c", Build.Configuration, "-o", Feed, $"-p:NuspecOutputPath={Root}/nuspecs", "-p:EnablePackageValidation=false")).Succeeded();
    }

    public async ValueTask DisposeAsync()
    {
        await House.DotnetAsync("build-server", "shutdown", "--msbuild");
        Directory.Delete(Root, recursive: true);
    }
}

/// <summary>One yard for all tests; they run one after another, for each of their builds uses the whole machine.</summary>
[CollectionDefinition(Name)]
public sealed class YardCollection : ICollectionFixture<Yard>
{
    internal const string Name = "yard";
}
