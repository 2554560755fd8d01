namespace DmaBufIo.Packages.Tests;

/// <summary>Packing compares the public face with that of an older package, when it is given one.</summary>
[Collection(YardCollection.Name)]
[Trait("Duration", "Minutes")]
public sealed class ValidationTests(Yard yard)
{
    [Fact]
    public async Task A_public_member_that_an_older_package_has_and_this_one_lacks_is_found()
    {
        string others = await yard.PackOthersAsync();
        string other = Yard.OtherVersions[0];

        Result result = await PackAgainstAsync(other, Path.Combine(others, $"DmaBufIo.Core.{other}.nupkg"));

        result.Failed().Says("CP0002").Says("Member 'string DmaBufIo.Rings.Ring.Later.get' exists on");
    }

    [Fact]
    public async Task The_same_public_face_passes() => (await PackAgainstAsync(Build.Version, yard.Package("DmaBufIo.Core"))).Succeeded();

    // The mark of a validation is an intermediate file: it belongs to the yard, not beside the sources.
    private async Task<Result> PackAgainstAsync(string version, string package) => await yard.House.DotnetAsync(
        "pack", "Core/DmaBufIo.Core", "--no-build", "-c", Build.Configuration, "-o", Path.Combine(yard.Root, "validated"),
        $"-p:NuspecOutputPath={yard.Root}/nuspecs", $"-p:IntermediateOutputPath={yard.Root}/validated/{version}/", $"-p:PackageValidationBaselineVersion={version}", $"-p:PackageValidationBaselinePath={package}");
}
