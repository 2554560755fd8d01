using DmaBufIo.Block;
using DmaBufIo.Plugins;

namespace DmaBufIo.Fixtures.Faulty;

internal class WordFactory(string word) : IBlockDeviceFactory
{
    public string Word => word;

    public BlockDevice Create(DeviceExpression expression, IReadOnlyList<BlockDevice> members) => throw new InvalidOperationException("No device is made of it.");
}
