using DmaBufIo.Hosting;

namespace DmaBufIo.ContractTests;

/// <summary>What <see cref="PluginContract"/> asks of an author: expressions that open, and some that must not.</summary>
public interface IExpressionFixture : IPluginFixture
{
    /// <summary>
    /// Expressions of devices, files and buffers that open, one or more for each word of the plugin; for one without words, what makes a host use it. Together they give each of its options
    /// (<see cref="Plugins.PluginInfo.Options"/>) a value at least once, at the outermost word.
    /// </summary>
    /// <param name="world">A host with the plugin loaded, and a folder for files.</param>
    IReadOnlyList<string> Right(ContractWorld world);

    /// <summary>
    /// Expressions that parse and must be refused: a text that is missing, a size or number out of its range, members that do not fit. Unknown options, values that are none, members where none
    /// belong and members that are missing are tried by the contract itself.
    /// </summary>
    /// <param name="world">The host.</param>
    IReadOnlyList<string> Wrong(ContractWorld world) => [];

    /// <summary>Options that take any text: the contract gives the others a value that cannot be right.</summary>
    IReadOnlyList<string> FreeTextOptions => [];

    /// <summary>Bytes of a buffer that is made of an exporter's expression.</summary>
    long BufferSize => 1 << 20;

    /// <summary>Uses a device that is neither a block device nor a file.</summary>
    /// <param name="world">The host.</param>
    /// <param name="device">Opened from one of <see cref="Right"/>; the contract closes it.</param>
    void Use(ContractWorld world, OpenedDevice device)
    {
    }
}
