using System.Reflection;
using System.Runtime.CompilerServices;
using DmaBufIo.Rings;
using Mono.Cecil;

namespace DmaBufIo.Tests.House;

public sealed class CoreAssemblyTests
{
    private const string Root = "DmaBufIo.";
    private const BindingFlags Visible = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly;

    private static ModuleDefinition Core => ModuleDefinition.ReadModule(typeof(Ring).Assembly.Location);

    [Fact]
    public void Every_folder_of_Core_is_in_the_table_and_every_row_has_a_folder()
    {
        using ModuleDefinition core = Core;
        string[] folders = [.. core.GetTypes().Select(References.NamespaceOf).Where(IsCore).Select(FolderOf).Distinct().Order()];
        Assert.Equal(FolderTable.Rows.SelectMany(static r => r.Folders).Order(), folders);
        string[] elsewhere = [.. core.GetTypes().Where(static t => t.IsPublic && !IsCore(t.Namespace)).Select(static t => t.FullName)];
        Assert.Empty(elsewhere);
    }

    [Fact]
    public void No_folder_of_Core_uses_another_that_the_table_does_not_allow()
    {
        using ModuleDefinition core = Core;
        var broken = new SortedSet<string>(StringComparer.Ordinal);
        int seen = 0;
        foreach ((TypeDefinition user, TypeReference used) in References.Of(core))
        {
            (string from, string to) = (References.NamespaceOf(user), References.NamespaceOf(used));
            if (!IsCore(from) || !IsCore(to) || from == to)
                continue;
            seen++;
            if (!FolderTable.Allows(FolderOf(from), FolderOf(to)))
                broken.Add($"{user.FullName} uses {used.FullName}");
        }

        Assert.True(seen > 1000, $"only {seen} references between folders were found: the reader is broken");
        Assert.Empty(broken);
    }

    [Fact]
    public void There_is_no_cycle_between_folders_of_Core()
    {
        using ModuleDefinition core = Core;
        var uses = References.Of(core)
            .Select(static r => (From: References.NamespaceOf(r.User), To: References.NamespaceOf(r.Used)))
            .Where(static r => r.From != r.To && IsCore(r.From) && IsCore(r.To))
            .Distinct()
            .ToLookup(static r => FolderOf(r.From), static r => FolderOf(r.To));
        var left = FolderTable.Rows.SelectMany(static r => r.Folders).ToHashSet();
        while (left.FirstOrDefault(f => !uses[f].Any(left.Contains)) is { } free)
            left.Remove(free);
        Assert.Empty(left.Select(f => $"{f} uses {string.Join(", ", uses[f].Where(left.Contains))}"));
    }

    [Theory]
    [InlineData("Rings", "Files", true)]
    [InlineData("Files", "Rings", false)]
    [InlineData("Sync", "Errors", true)]
    [InlineData("Sync", "Native", false)]
    [InlineData("Sync", "Io", false)]
    [InlineData("Memory", "Native", true)]
    [InlineData("Errors", "Native", false)]
    [InlineData("Pci", "DmaBufs", false)]
    [InlineData("Pci", "Dma", true)]
    [InlineData("Plugins", "Rings", true)]
    [InlineData("Tokens", "Files", false)]
    public void The_table_means_what_it_says(string user, string used, bool allowed) =>
        Assert.Equal(allowed, FolderTable.Allows(user, used));

    [Fact]
    public void CONTRIBUTING_shows_the_same_table()
    {
        string text = System.IO.File.ReadAllText(Path.Combine(RepositoryRoot(), "CONTRIBUTING.md"));
        int heading = text.IndexOf("\n## Folders of Core\n", StringComparison.Ordinal);
        Assert.True(
            heading >= 0 || text.StartsWith("## Folders of Core\n", StringComparison.Ordinal),
            "CONTRIBUTING.md has no heading '## Folders of Core'");
        string[] lines = text[Math.Max(0, heading)..].Split('\n');
        string[] shown = [.. lines.SkipWhile(static l => !l.StartsWith('|')).TakeWhile(static l => l.StartsWith('|'))];
        Assert.Equal(FolderTable.Markdown(), shown);
    }

    [Fact]
    public void Core_references_no_assembly_of_the_framework_and_no_plugin()
    {
        using ModuleDefinition core = Core;
        Assert.DoesNotContain(core.AssemblyReferences, static r => r.Name.StartsWith("DmaBufIo", StringComparison.Ordinal));
        Assert.All(
            core.AssemblyReferences,
            static r => Assert.True(
                r.Name.StartsWith("System.", StringComparison.Ordinal) || r.Name is "Microsoft.Win32.Primitives"
                || (r.Name.StartsWith("Microsoft.Extensions.", StringComparison.Ordinal)
                    && r.Name.EndsWith(".Abstractions", StringComparison.Ordinal)),
                $"Core references {r.Name}: everything that Core references is shared with every plugin"));
    }

    [Fact]
    public void Core_opens_its_internals_to_nobody() =>
        Assert.Empty(typeof(Ring).Assembly.GetCustomAttributes<InternalsVisibleToAttribute>());

    [Fact]
    public void Core_has_no_public_constants_because_they_are_inlined_into_plugins()
    {
        string[] constants = [.. typeof(Ring).Assembly.GetExportedTypes()
            .Where(static t => !t.IsEnum)
            .SelectMany(static t => t.GetFields(Visible | BindingFlags.Static))
            .Where(static f => f.IsLiteral && (f.IsPublic || f.IsFamily || f.IsFamilyOrAssembly))
            .Select(static f => $"{f.DeclaringType}.{f.Name}")];
        Assert.Empty(constants);
    }

    [Fact]
    public void Core_has_no_generic_virtual_methods_that_plugins_see()
    {
        string[] methods = [.. typeof(Ring).Assembly.GetExportedTypes()
            .SelectMany(static t => t.GetMethods(Visible | BindingFlags.Instance))
            .Where(static m => m is { IsVirtual: true, IsGenericMethodDefinition: true })
            .Where(static m => m.IsPublic || m.IsFamily || m.IsFamilyOrAssembly)
            .Select(static m => $"{m.DeclaringType}.{m.Name}")];
        Assert.Empty(methods);
    }

    [Fact]
    public void Unsafe_code_and_native_calls_live_in_Native_and_Memory_alone()
    {
        using ModuleDefinition core = Core;
        string[] found = [.. core.GetTypes()
            .Where(static t => IsCore(References.NamespaceOf(t)) && FolderOf(References.NamespaceOf(t)) is not ("Native" or "Memory"))
            .SelectMany(static t => t.Methods)
            .Where(static m => m.IsPInvokeImpl
                || (m.HasBody && m.Body.Variables.Any(static v => v.VariableType.IsPointer || v.VariableType.IsPinned))
                || m.Parameters.Any(static p => p.ParameterType.IsPointer || p.ParameterType.IsFunctionPointer))
            .Select(static m => m.FullName)];
        Assert.Empty(found);
    }

    [Fact]
    public void Native_structs_of_Core_hold_no_function_pointers_and_no_references()
    {
        Assert.False(RuntimeHelpers.IsReferenceOrContainsReferences<DmaBufIo.Block.Bio>());
        using ModuleDefinition core = Core;
        Assert.DoesNotContain(core.GetTypes().SelectMany(static t => t.Fields), static f => f.FieldType.IsFunctionPointer);
    }

    private static bool IsCore(string name) => name.StartsWith(Root, StringComparison.Ordinal);

    private static string FolderOf(string name) => name[Root.Length..].Split('.')[0];

    private static string RepositoryRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !System.IO.File.Exists(Path.Combine(folder, "Framework.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException($"No repository above {AppContext.BaseDirectory}.");
    }
}
