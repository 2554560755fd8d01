using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.DmaBufs;
using DmaBufIo.Models.Iommu;
using DmaBufIo.Pci.Model;
using DmaBufIo.Tokens;

namespace DmaBufIo.Importers.NvmePci.Tests.Harness;

/// <summary>A strict controller model behind a strict IOMMU, with the driver bound to it. A test that ends well ends with both
/// clean.</summary>
internal sealed class Rig : IDisposable
{
    private readonly List<Lane> _lanes = [];
    private readonly List<(DmaBufToken Token, DmaBuf Buffer, TestExporter Exporter, TestOwner Owner)> _tokens = [];

    private Rig(NvmeModelOptions model, NvmePciOptions? options, ModelIommuOptions? iommu, Action<FaultyFunction>? prepare)
    {
        Iommu = new ModelIommu(iommu);
        Model = new NvmeControllerModel(model, Iommu);
        Function = new FaultyFunction(Model);
        prepare?.Invoke(Function);
        Binding = new NvmePciDriver(options).Probe(Function, "nvme0");
    }

    internal static NvmeModelOptions Small { get; } = new() { SizeBytes = 8 << 20, OwnThread = false };

    internal ModelIommu Iommu { get; }

    internal NvmeControllerModel Model { get; }

    internal FaultyFunction Function { get; }

    internal NvmeBinding Binding { get; }

    internal BlockDevice Device => Binding.BlockDevices[0];

    internal static void With(
        Action<Rig> test,
        NvmeModelOptions? model = null,
        NvmePciOptions? options = null,
        ModelIommuOptions? iommu = null,
        Action<FaultyFunction>? prepare = null)
    {
        using var rig = new Rig(model ?? Small, options, iommu, prepare);
        test(rig);
        rig.Dispose();
        rig.AssertClean();
    }

    internal Lane Lane(int depth = 32, int pool = 256)
    {
        var lane = new Lane(Device, depth, pool);
        _lanes.Add(lane);
        return lane;
    }

    internal (DmaBufToken Token, TestExporter Memory) Register(long size, DmaDirection direction = DmaDirection.Bidirectional) =>
        Register([size], direction);

    internal (DmaBufToken Token, TestExporter Memory) Register(
        IEnumerable<long> fragments,
        DmaDirection direction = DmaDirection.Bidirectional,
        Func<IReadOnlyList<DeviceRange>, IReadOnlyList<DeviceRange>>? cut = null)
    {
        (DmaBuf buffer, TestExporter exporter) = TestExporter.Create(fragments, cut);
        var owner = new TestOwner();
        var token = DmaBufToken.Create(owner, buffer, direction, TokenOptions.Default, Device.CreateToken);
        _tokens.Add((token, buffer, exporter, owner));
        return (token, exporter);
    }

    /// <summary>Ends tokens, lanes, the device and the IOMMU, in that order. Idempotent.</summary>
    public void Dispose()
    {
        foreach (Lane lane in _lanes)
            lane.Finish();
        foreach ((DmaBufToken token, DmaBuf buffer, TestExporter exporter, TestOwner owner) in _tokens)
        {
            token.Release();
            Assert.Equal(Errors.Errno.Ok, token.WaitReleased(TestContext.Current.CancellationToken));
            Assert.Equal(exporter.Maps, exporter.Unmaps);
            Assert.Equal(0, owner.References);
            buffer.Put();
        }

        _tokens.Clear();
        foreach (Lane lane in _lanes)
            lane.Dispose();
        _lanes.Clear();
        Binding.Dispose();
        Iommu.Dispose();
    }

    private void AssertClean()
    {
        Assert.Empty(Model.Violations);
        Assert.True(Iommu.Faults == 0 && Iommu.StaleAccesses == 0, string.Join(Environment.NewLine, Iommu.Reports));
        Assert.True(Iommu.LeakedMappings == 0, string.Join(Environment.NewLine, Iommu.LeakedMappingDescriptions));
        Assert.Equal(1, Function.Disposals);
    }
}
