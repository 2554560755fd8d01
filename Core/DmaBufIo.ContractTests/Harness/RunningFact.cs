namespace DmaBufIo.ContractTests;

/// <summary>The fact that runs: for messages.</summary>
/// <param name="Contract">The class that an author has derived.</param>
/// <param name="Name">Class and method.</param>
/// <param name="Repeat">The command that runs it again.</param>
internal sealed record RunningFact(Type Contract, string Name, string Repeat)
{
    /// <summary>That of a contract.</summary>
    internal static RunningFact Of(Type contract)
    {
        string name = $"{contract.Name}.{TestContext.Current.TestMethod?.MethodName ?? "the fact's name"}";
        string project = ProjectOf(contract) is { } path ? $"{path} " : "";
        return new RunningFact(contract, name, $"dotnet test {project}--filter \"FullyQualifiedName~{name}\"");
    }

    // Test assemblies lie somewhere below their project.
    private static string? ProjectOf(Type contract)
    {
        string file = $"{contract.Assembly.GetName().Name}.csproj";
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string path = Path.Combine(folder.FullName, file);
            if (File.Exists(path))
                return path;
        }

        return null;
    }
}
