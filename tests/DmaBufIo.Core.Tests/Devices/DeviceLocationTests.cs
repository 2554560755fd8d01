using DmaBufIo.Devices;
using DmaBufIo.Errors;

namespace DmaBufIo.Tests.DeviceTests;

/// <summary>Which devices reach each other's memory, by their places in the PCI tree.</summary>
public sealed class DeviceLocationTests
{
    [Theory]
    [InlineData("hb0/rp1/sw0/p1", "hb0/rp1/sw0/p2", true, "both hang below hb0/rp1/sw0")]
    [InlineData("hb0/rp1/sw0/p1", "hb0/rp1", true, "both hang below hb0/rp1")]
    [InlineData("hb0+noforward/rp1/sw0/p1", "hb0+noforward/rp1/sw0/p2", true, "both hang below hb0/rp1/sw0")]
    [InlineData("hb0/rp1/sw0+acs/p1", "hb0/rp1/sw0+acs/p2", true, "both hang below hb0/rp1/sw0")]
    [InlineData("hb0/rp1/sw0/p1+acs", "hb0/rp1/sw0/p2", true, "access control at hb0/rp1/sw0/p1 sends")]
    [InlineData("hb0/rp1/sw0/p1", "hb0/rp1/sw0/p2/p5+acs", true, "access control at hb0/rp1/sw0/p2/p5 sends")]
    [InlineData("hb0+noforward/rp1/sw0/p1+acs", "hb0+noforward/rp1/sw0/p2", false, "and host bridge hb0 does not forward them")]
    [InlineData("hb0/rp1", "hb0/rp2", true, "different root ports, and host bridge hb0 forwards them")]
    [InlineData("hb0+noforward/rp1", "hb0/rp2", false, "different root ports, and host bridge hb0 does not forward them")]
    [InlineData("hb0/rp1", "hb1/rp1", false, "different host bridges, hb0 and hb1")]
    public void A_path_is_open_below_a_common_port_unless_access_control_sends_requests_up_and_through_a_bridge_that_forwards(string one, string other, bool isOpen, string reason)
    {
        var (a, b) = (DeviceLocation.Parse(one), DeviceLocation.Parse(other));
        PeerPath path = a.PathTo(b);
        Assert.Equal(isOpen, path.IsOpen);
        Assert.Contains(reason, path.Reason, StringComparison.Ordinal);
        Assert.Equal(isOpen, b.PathTo(a).IsOpen);
    }

    [Theory]
    [InlineData("", "'' is no host bridge")]
    [InlineData("hb0", "the root port is missing")]
    [InlineData("hb0/", "'' is no port")]
    [InlineData("/rp0", "'' is no host bridge")]
    [InlineData("hb0/rp+acs+acs", "'rp+acs+acs' is no port")]
    [InlineData("hb0+acs/rp1", "'hb0+acs' is no host bridge")]
    [InlineData("hb0/rp1+noforward", "'rp1+noforward' is no port")]
    public void What_is_no_place_is_refused_with_the_part_that_is_wrong(string text, string problem)
    {
        DmaBufIoException refused = Assert.Throws<DmaBufIoException>(() => DeviceLocation.Parse(text));
        Assert.Equal((Errno.EINVAL, problem), (refused.Errno, refused.Problem));
    }

    [Fact]
    public void Two_of_one_text_are_the_same_place()
    {
        Assert.Equal(DeviceLocation.Parse("hb0/rp1"), DeviceLocation.Parse("hb0/rp1"));
        Assert.NotEqual(DeviceLocation.Parse("hb0/rp1"), DeviceLocation.Parse("hb0/rp2"));
        Assert.Equal("hb0/rp1+acs", DeviceLocation.Parse("hb0/rp1+acs").ToString());
    }
}
