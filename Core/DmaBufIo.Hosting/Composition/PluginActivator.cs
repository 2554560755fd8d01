using System.Reflection;
using System.Runtime.Loader;
using Autofac;
using Autofac.Core;
using Autofac.Extensions.DependencyInjection;
using DmaBufIo.Errors;
using DmaBufIo.Hosting.Loading;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Hosting;

/// <summary>
/// Makes a working plugin out of an entry class: asks who it is, lets it register, builds its scope, takes its factories.
/// </summary>
internal sealed class PluginActivator(ILifetimeScope root, DmaBufIoOptions options, IConfiguration configuration)
{
    /// <summary>Looks at a plugin's folder without loading any code: its entry assembly, that its assemblies are whole, and what they were built against.</summary>
    /// <exception cref="DmaBufIoException">No entry assembly (<c>ENOENT</c>), or built against what this host does not have (<c>EOPNOTSUPP</c>).</exception>
    /// <exception cref="BadImageFormatException">An assembly is not whole.</exception>
    /// <exception cref="InvalidOperationException">The deps.json cannot be understood or names files that are not there.</exception>
    internal PluginConfig Check(string folder)
    {
        var config = new PluginConfig(EntryAssembly.Find(folder))
        {
            IsUnloadable = !options.NonCollectiblePlugins,
            SharedAssemblies = [.. options.SharedAssemblies],
        };
        ReferenceCheck.Check(config);
        return config;
    }

    /// <summary>Loads a plugin from its folder.</summary>
    /// <param name="draft">Filled in as far as the plugin got, so that a refusal can tell who was refused.</param>
    /// <exception cref="Exception">Anything: the code is the plugin's. Nothing stays loaded then.</exception>
    internal LoadedPlugin FromFolder(PluginDraft draft)
    {
        PluginConfig config = Check(draft.Status.Folder!);
        IPluginAssemblyLoader loader = options.AssemblyLoader(config);
        try
        {
            Assembly assembly = loader.LoadDefaultAssembly();
            Type type = EntryClass.Find(assembly);
            return Activate(draft, type.FullName!, () => Construct(type), loader, AssemblyLoadContext.GetLoadContext(assembly));
        }
        catch
        {
            loader.Dispose();
            throw;
        }
    }

    /// <summary>Takes a plugin that the host application brings, the same way but without a load context of its own.</summary>
    internal LoadedPlugin BuiltIn(PluginDraft draft, Func<IDmaBufIoPlugin> create) => Activate(
        draft,
        draft.Status.Name,
        create,
        loader: null,
        context: null);

    private LoadedPlugin Activate(
        PluginDraft draft,
        string type,
        Func<IDmaBufIoPlugin> create,
        IPluginAssemblyLoader? loader,
        AssemblyLoadContext? context)
    {
        IDmaBufIoPlugin entry = Ask($"the constructor of {type}", create);
        ILifetimeScope? scope = null;
        try
        {
            draft.Take(Ask($"{type}.{nameof(IDmaBufIoPlugin.Info)}", () => entry.Info), loader is { IsUnloadable: true });
            ServiceCollection services = Register(draft.Status.Name, type, entry);
            scope = Ask("building the scope of its services", () => context is null || context == AssemblyLoadContext.Default
                ? root.BeginLifetimeScope(builder => builder.Populate(services))
                : root.BeginLoadContextLifetimeScope(context, builder => builder.Populate(services)));
            return Ask("making its factories", () => Compose(draft, entry, (ILifetimeScope)scope, loader));
        }
        catch
        {
            using var owned = new OwnedStack();
            if (entry is IDisposable disposable)
                owned.Push(disposable);
            if (scope is not null)
                owned.Push(scope);
            throw;
        }
    }

    private ServiceCollection Register(string name, string type, IDmaBufIoPlugin entry)
    {
        var services = new ServiceCollection();
        IConfiguration section = configuration.GetSection($"{DmaBufIoOptions.SectionName}:Plugins:{name}");
        Ask($"{type}.{nameof(IDmaBufIoPlugin.Register)}", () =>
        {
            entry.Register(services, section);
            return true;
        });

        // The Autofac bridge throws on keyed descriptors, without saying whose they are.
        if (services.FirstOrDefault(static d => d.IsKeyedService) is ServiceDescriptor keyed)
            throw PluginDraft.Refused(
                name,
                $"it registers the keyed service {keyed.ServiceType.Name} (key '{keyed.ServiceKey}'), and keyed services are not supported",
                "Register it without a key, behind a type of its own");

        // In the plugin's own scope: an open generic of the root would keep the closed ones over the plugin's types for ever.
        services.TryAddSingleton(typeof(ILogger<>), typeof(Logger<>));
        return services;
    }

    private static LoadedPlugin Compose(PluginDraft draft, IDmaBufIoPlugin entry, ILifetimeScope scope, IPluginAssemblyLoader? loader)
    {
        var plugin = new LoadedPlugin(entry, scope, loader);
        draft.TakeWords([.. plugin.DeviceWords, .. plugin.ExporterWords]);
        plugin.Status = draft.Status with { State = PluginState.Loaded, Reason = null };
        return plugin;
    }

    private static IDmaBufIoPlugin Construct(Type type)
    {
        // Without the wrapper that reflection puts around what a constructor throws.
        const BindingFlags Flags = BindingFlags.DoNotWrapExceptions | BindingFlags.Public | BindingFlags.Instance;
        return (IDmaBufIoPlugin)Activator.CreateInstance(type, Flags, null, null, null)!;
    }

    private static T Ask<T>(string what, Func<T> callback)
    {
        try
        {
            return callback();
        }
        catch (Exception e)
        {
            Exception cause = e;
            while (cause is DependencyResolutionException { InnerException: Exception inner })
                cause = inner;
            if (cause is DmaBufIoException known)
                throw new DmaBufIoException(known.Errno, "Hosting", what, $"{what} failed: {known.Subject}: {known.Problem}", known.Remedy);
            throw new DmaBufIoException(
                Errno.EIO,
                "Hosting",
                what,
                $"{what} threw {cause.GetType().FullName}: {cause.Message}",
                "Correct the plugin");
        }
    }
}
