using System.Text;
using System.Xml.Linq;

namespace DmaBufIo.Packages.Tests;

/// <summary>What is in the packages.</summary>
[Collection(YardCollection.Name)]
public sealed class PackageTests(Yard yard)
{
    private static readonly Dictionary<string, string[]> s_dependencies = new(StringComparer.Ordinal)
    {
        ["DmaBufIo.Core"] = ["Microsoft.Extensions.Configuration.Abstractions", "Microsoft.Extensions.DependencyInjection.Abstractions"],
        ["DmaBufIo.Hosting"] = ["Autofac", "Autofac.Extensions.DependencyInjection", "DmaBufIo.Core", "Microsoft.Extensions.Hosting"],
        ["DmaBufIo.Models"] = ["DmaBufIo.Core"],
        ["DmaBufIo.ContractTests"] = ["DmaBufIo.Hosting", "DmaBufIo.Models", "FSharp.Core", "FsCheck", "Mono.Cecil", "xunit.v3.assert", "xunit.v3.extensibility.core"],
    };

    public static TheoryData<string> Libraries => [.. s_dependencies.Keys];

    public static TheoryData<string> All => [.. s_dependencies.Keys, "DmaBufIo.Templates"];

    [Fact]
    public void The_feed_holds_these_packages() =>
        Assert.Equal(All.Select(static r => $"{r.Data}.{Build.Version}.nupkg").Order(), Directory.GetFiles(yard.Feed, $"*.{Build.Version}.nupkg").Select(Path.GetFileName).Order());

    [Theory]
    [MemberData(nameof(All))]
    public void A_package_says_what_it_is_and_under_which_licence(string id)
    {
        using PackageFile package = Open(id);
        XElement licence = package.Metadata.Element(package.Metadata.Name.Namespace + "license")!;

        Assert.Equal((id, Build.Version), (package.Said("id"), package.Said("version")));
        Assert.Equal(("expression", "MIT"), (licence.Attribute("type")?.Value, licence.Value));
        Assert.InRange(package.Said("description")!.Length, 40, 400);
        Assert.Equal("README.md", package.Said("readme"));
        Assert.StartsWith($"# {id}\n", package.Text("README.md"), StringComparison.Ordinal);
        Assert.Null(package.Metadata.Element(package.Metadata.Name.Namespace + "repository"));
    }

    [Theory]
    [MemberData(nameof(Libraries))]
    public void Dependencies_are_these_and_their_versions_are_exact(string id)
    {
        using PackageFile package = Open(id);

        Assert.Equal(s_dependencies[id].Order(StringComparer.Ordinal), package.Dependencies.Select(static d => d.Id).Order(StringComparer.Ordinal));
        Assert.All(package.Dependencies, static d => Assert.Matches(@"^\[[^,]+\]$", d.Version));
        Assert.All(package.Dependencies.Where(static d => d.Id.StartsWith("DmaBufIo.", StringComparison.Ordinal)), static d => Assert.Equal($"[{Build.Version}]", d.Version));
    }

    [Theory]
    [MemberData(nameof(Libraries))]
    public void A_library_has_its_documentation_and_its_symbols_beside_it(string id)
    {
        using PackageFile package = Open(id);
        string[] build = id switch
        {
            "DmaBufIo.Core" => ["build/DmaBufIo.Core.targets"],
            "DmaBufIo.ContractTests" => ["build/DmaBufIo.ContractTests.targets", "buildTransitive/DmaBufIo.ContractTests.targets"],
            _ => [],
        };
        string assembly = $"lib/net10.0/{id}";

        // The pages that its messages name.
        string[] pages = id == "DmaBufIo.ContractTests"
            ? [.. Directory.GetFiles(Path.Combine(Build.RepositoryRoot, "docs", "contracts"), "*.md").Select(static f => Path.GetFileName(f)).Where(static f => f != "mutants.md").Select(static f => $"docs/contracts/{f}"), "docs/rules.md"]
            : [];
        Assert.Equal(pages.Order(), package.Files.Where(static f => f.StartsWith("docs/", StringComparison.Ordinal)).Order());
        Assert.Equal([.. build, "README.md", $"{assembly}.dll", $"{assembly}.pdb", $"{assembly}.xml"], package.Files.Where(static f => !f.StartsWith("docs/", StringComparison.Ordinal)).Order(StringComparer.OrdinalIgnoreCase).OrderBy(static f => f.StartsWith("build", StringComparison.Ordinal) ? 0 : f == "README.md" ? 1 : 2));
        string documentation = package.Text($"{assembly}.xml");
        Assert.All(package.PublicTypes($"{assembly}.dll"), type => Assert.Contains($"<member name=\"T:{type}\">", documentation, StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Libraries))]
    public void A_library_is_the_same_wherever_it_is_built(string id)
    {
        using PackageFile package = Open(id);

        Assert.True(package.IsReproducible($"lib/net10.0/{id}.dll"));
        Assert.All(package.Sources($"lib/net10.0/{id}.pdb"), static source => Assert.StartsWith("/_", source, StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void Nothing_in_a_package_names_a_place_on_this_machine(string id)
    {
        using PackageFile package = Open(id);
        string[] places = [Build.RepositoryRoot, Build.PackageFolder, yard.Root];
        foreach (string file in package.AllFiles)
        {
            byte[] bytes = package.Bytes(file);
            foreach (string place in places)
            {
                foreach (Encoding encoding in (Encoding[])[Encoding.UTF8, Encoding.Unicode])
                    Assert.True(bytes.AsSpan().IndexOf(encoding.GetBytes(place)) < 0, $"{file} of {id} names {place}.");
            }
        }
    }

    [Fact]
    public void The_templates_are_the_samples_and_pin_the_packages_of_this_release()
    {
        using PackageFile package = Open("DmaBufIo.Templates");

        Assert.DoesNotContain(package.Files, static f => f.Contains("/bin/", StringComparison.Ordinal) || f.Contains("/obj/", StringComparison.Ordinal) || f.EndsWith("nuget.config", StringComparison.OrdinalIgnoreCase));
        foreach ((string template, string[] samples) in (ReadOnlySpan<(string, string[])>)[("importer", ["RamDisk", "RamDisk.ContractTests"]), ("exporter", ["MovingRam", "MovingRam.ContractTests"]), ("host", ["FileToDisk", "FileToDisk.Tests"])])
        {
            Assert.Contains($"content/{template}/.template.config/template.json", package.Files);
            Assert.Contains($">{Build.Version}</DmaBufIoVersion>", package.Text($"content/{template}/Directory.Packages.props"), StringComparison.Ordinal);
            foreach (string sample in samples)
            {
                string folder = Path.Combine(Build.RepositoryRoot, "samples", sample);
                string[] files = [.. Directory.GetFiles(folder).Select(static f => Path.GetFileName(f)).Order()];
                Assert.Equal(files, package.Files.Where(f => f.StartsWith($"content/{template}/{sample}/", StringComparison.Ordinal)).Select(static f => Path.GetFileName(f)).Order());
                Assert.All(files, f => Assert.Equal(File.ReadAllText(Path.Combine(folder, f)), package.Text($"content/{template}/{sample}/{f}")));
            }
        }
    }

    [Fact]
    public void The_samples_use_the_packages_of_this_release()
    {
        string props = File.ReadAllText(Path.Combine(Build.RepositoryRoot, "samples", "Directory.Packages.props"));
        Assert.Contains($">{Build.Version}</DmaBufIoVersion>", props, StringComparison.Ordinal);
    }

    [Fact]
    public void The_samples_use_packages_of_others_that_this_repository_uses_in_the_same_version()
    {
        HashSet<string> house = [.. Versions(Build.RepositoryRoot)];

        // What a machine has restored for the solution is all that the samples need.
        Assert.All(Versions(Path.Combine(Build.RepositoryRoot, "samples")).Where(static p => !p.StartsWith("DmaBufIo.", StringComparison.Ordinal)), p => Assert.Contains(p, house));

        static IEnumerable<string> Versions(string folder) =>
            XDocument.Load(Path.Combine(folder, "Directory.Packages.props")).Descendants("PackageVersion").Select(static p => $"{p.Attribute("Include")!.Value} {p.Attribute("Version")!.Value}");
    }

    private PackageFile Open(string id) => new(yard.Package(id));
}
