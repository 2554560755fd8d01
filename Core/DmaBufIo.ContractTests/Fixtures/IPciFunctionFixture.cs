using DmaBufIo.Pci;

namespace DmaBufIo.ContractTests;

/// <summary>What <see cref="PciFunctionContract"/> asks of an author: the expression of a PCI function, and as little of a driver as makes it do a DMA.</summary>
public interface IPciFunctionFixture : IPluginFixture
{
    /// <summary>What the function can. What it cannot is skipped, with the reason, and never passes.</summary>
    PciFunctionCapabilities Capabilities { get; }

    /// <summary>An expression that makes a new function with no members. Called for every fact.</summary>
    /// <param name="world">A host with the plugin loaded, and a folder for files.</param>
    string Expression(ContractWorld world);

    /// <summary>Makes the function do a DMA: with <see cref="PciFunctionCapabilities.Dma"/>.</summary>
    /// <param name="function">The function, as it was made; the contract owns it.</param>
    FunctionWork CreateWork(PciFunction function) => throw new NotSupportedException("A fixture with the capability Dma implements CreateWork.");

    /// <summary>Opens a function with its driver: with <see cref="PciFunctionCapabilities.Driver"/>.</summary>
    /// <param name="world">The host.</param>
    /// <returns>The target; the contract disposes it before the world.</returns>
    ImporterTarget OpenWithDriver(ContractWorld world) => throw new NotSupportedException("A fixture with the capability Driver implements OpenWithDriver.");
}

/// <summary>What a PCI function can; each flag that is missing skips facts.</summary>
[Flags]
public enum PciFunctionCapabilities
{
    /// <summary>Only what every function must.</summary>
    None = 0,

    /// <summary>
    /// A model in this process, behind the world's fabric: any of its registers may be read and written at will, and its DMA can be held up. Not for real devices.
    /// </summary>
    Model = 1,

    /// <summary>The fixture knows how to make it do a DMA (<see cref="IPciFunctionFixture.CreateWork"/>).</summary>
    Dma = 2,

    /// <summary>It has interrupts, and the work says which (<see cref="FunctionWork.Vector"/>).</summary>
    Interrupts = 4,

    /// <summary>There is a driver for it that makes a block device or file (<see cref="IPciFunctionFixture.OpenWithDriver"/>).</summary>
    Driver = 8,

    /// <summary>Everything.</summary>
    All = Model | Dma | Interrupts | Driver,
}

/// <summary>
/// As little of a driver as makes a function write memory: what it needs besides the memory of the contract, such as queues, it maps itself in the function's address space and unmaps when it
/// is disposed. One DMA at a time, one thread at a time.
/// </summary>
public abstract class FunctionWork : IDisposable
{
    /// <summary>The vector that tells of a DMA that has ended; negative when there is none.</summary>
    public virtual int Vector => -1;

    /// <summary>Sets the function up: after it was made, and again after each reset.</summary>
    public abstract void Start();

    /// <summary>
    /// Tells the function to write a page of 4096 bytes to memory, not all of them 0xA5, and does not wait.
    /// </summary>
    /// <param name="address">Device address, page-aligned; perhaps not mapped.</param>
    public abstract void Begin(ulong address);

    /// <summary>Whether the function is done with what was begun. Lets an inline model work (<see cref="PciFunction.Advance"/>).</summary>
    /// <returns>Null while it is not; true when the function says that it has written the memory; false when it says that it has failed.</returns>
    public abstract bool? Poll();

    /// <summary>Gives back what <see cref="Start"/> has mapped. The function was reset or disposed before.</summary>
    public abstract void Dispose();
}
