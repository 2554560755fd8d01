using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;
using Microsoft.Extensions.Logging;

namespace DmaBufIo.Fixtures.Good;

public sealed class FakeFunctionFactory(Journal journal, ILogger<FakeFunctionFactory> logger) : IPciFunctionFactory
{
    public string Word => "fake";

    public PciFunction Create(DeviceExpression expression, bool readOnly)
    {
        expression.AllowOnly("fail", "namespaces", "vendor", "class");
        if (expression.Options.TryGetValue("fail", out DeviceOption fail) && fail.Value == "create")
            throw new DmaBufIoException(Errno.ENOENT, "Good", expression.Text!, "there is no such thing", "Name another");
        logger.LogInformation("Function {Function} made", expression.Text);
        journal.Write($"create {expression.Text}{(readOnly ? " read-only" : "")}");
        return new FakeFunction(expression, journal);
    }
}

public sealed class FakeFunction(DeviceExpression expression, Journal journal) : PciFunction
{
    public DeviceExpression Expression => expression;

    public override string Name => expression.Text!;

    public override PciIdentity Identity => new((ushort)expression.Size("vendor", 0x1234), 1, (int)expression.Size("class", 0x010802));

    public override DmaAddressSpace AddressSpace => throw new NotSupportedException("A fake function does no DMA.");

    public override int InterruptVectors => 0;

    public override long BarLength(int bar) => 0;

    public override uint Read32(int bar, long offset) => uint.MaxValue;

    public override void Write32(int bar, long offset, uint value)
    {
    }

    public override void SetInterruptHandler(int vector, Action? handler)
    {
    }

    public override void Reset()
    {
    }

    public override void Dispose()
    {
        journal.Write($"dispose function {Name}");
        if (expression.Options.TryGetValue("fail", out DeviceOption fail) && fail.Value is "probe-dispose")
            throw new InvalidOperationException("the function cannot be disposed");
    }
}
