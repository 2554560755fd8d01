using DmaBufIo.Block;
using DmaBufIo.Errors;
using DmaBufIo.Pci;
using DmaBufIo.Plugins;

namespace DmaBufIo.Fixtures.Good;

public sealed class FakeDriver(Journal journal) : IPciDriver
{
    public string Name => "fake-driver";

    public bool Matches(in PciIdentity identity) => identity.Vendor == 0x1234;

    public IPciBinding Probe(PciFunction function, string name)
    {
        var fake = (FakeFunction)function;
        if (fake.Expression.Options.TryGetValue("fail", out DeviceOption fail) && fail.Value.StartsWith("probe", StringComparison.Ordinal))
            throw new DmaBufIoException(Errno.ETIMEDOUT, "Good", name, "it does not answer", "Try another", inner: null);
        journal.Write($"probe {function.Name} as {name}");
        return new FakeBinding(fake, name, journal);
    }
}

public sealed class FakeBinding(FakeFunction function, string name, Journal journal) : IPciBinding
{
    public IReadOnlyList<BlockDevice> BlockDevices { get; } =
        [.. Enumerable.Range(1, (int)function.Expression.Size("namespaces", 1)).Select(n => new FakeDisk($"{name}n{n}"))];

    public void Reset() => journal.Write($"reset {name}");

    public void Dispose()
    {
        journal.Write($"remove {name}");
        function.Dispose();
        if (function.Expression.Options.TryGetValue("fail", out DeviceOption fail) && fail.Value == "remove")
            throw new InvalidOperationException($"{name} cannot be removed");
    }
}
