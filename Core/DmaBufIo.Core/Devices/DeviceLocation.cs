using DmaBufIo.Errors;

namespace DmaBufIo.Devices;

/// <summary>
/// Where a device hangs in the PCI tree, from the host bridge down: what decides whether two devices reach each other's memory without a detour through main memory.
/// </summary>
/// <remarks>
/// Written as <c>BRIDGE/PORT[/PORT…]</c>: the host bridge, its root port, and the ports of the switches on the way. A port may be followed by <c>+acs</c> (access control: it sends requests
/// between peers up to the root complex, PCI Express 6.12), the host bridge by <c>+noforward</c> (it does not send requests from one root port to another). The same name at the same
/// place is the same thing. The rules are those of the kernel's drivers/pci/p2pdma.c.
/// </remarks>
public sealed record DeviceLocation
{
    private const string Redirects = "+acs";
    private const string Alone = "+noforward";
    private readonly string[] _ports;
    private readonly bool[] _redirects;
    private readonly bool _forwards;

    private DeviceLocation(string text, bool forwards, string[] ports, bool[] redirects)
    {
        Text = text;
        _forwards = forwards;
        _ports = ports;
        _redirects = redirects;
    }

    /// <summary>As it was written.</summary>
    public string Text { get; }

    /// <summary>Reads a location.</summary>
    /// <param name="text">For example <c>hb0/rp1/sw0+acs</c>.</param>
    /// <exception cref="DmaBufIoException">Not of this form (<c>EINVAL</c>).</exception>
    public static DeviceLocation Parse(string text)
    {
        string[] parts = text.Split('/');
        var names = new string[parts.Length];
        var marked = new bool[parts.Length];
        for (int i = 0; i < parts.Length; i++)
        {
            string mark = i == 0 ? Alone : Redirects;
            marked[i] = parts[i].EndsWith(mark, StringComparison.Ordinal);
            names[i] = marked[i] ? parts[i][..^mark.Length] : parts[i];
            if (names[i].Length == 0 || names[i].Contains('+', StringComparison.Ordinal))
                throw Broken(text, $"'{parts[i]}' is no {(i == 0 ? "host bridge" : "port")}");
        }

        return parts.Length > 1 ? new DeviceLocation(text, !marked[0], names, marked) : throw Broken(text, "the root port is missing");
    }

    /// <summary>Whether requests of one device reach the memory of the other, and why.</summary>
    /// <param name="other">The other device's location.</param>
    public PeerPath PathTo(DeviceLocation other)
    {
        if (_ports[0] != other._ports[0])
            return new PeerPath(false, $"the devices hang on different host bridges, {_ports[0]} and {other._ports[0]}");
        int shared = 1;
        while (shared < _ports.Length && shared < other._ports.Length && _ports[shared] == other._ports[shared])
            shared++;

        // The ports on the way up to what both hang on: one that redirects sends the request past it, up to the root complex.
        string? redirecting = FirstRedirecting(shared) ?? other.FirstRedirecting(shared);
        if (shared > 1 && redirecting is null)
            return new PeerPath(true, $"both hang below {string.Join('/', _ports[..shared])}");
        string why = shared == 1 ? "the devices hang on different root ports" : $"access control at {redirecting} sends their requests to the root complex";
        return _forwards && other._forwards
            ? new PeerPath(true, $"{why}, and host bridge {_ports[0]} forwards them")
            : new PeerPath(false, $"{why}, and host bridge {_ports[0]} does not forward them");
    }

    /// <inheritdoc/>
    public bool Equals(DeviceLocation? other) => other is not null && Text == other.Text;

    /// <inheritdoc/>
    public override int GetHashCode() => Text.GetHashCode(StringComparison.Ordinal);

    /// <inheritdoc/>
    public override string ToString() => Text;

    private static DmaBufIoException Broken(string text, string problem) =>
        new(Errno.EINVAL, "Devices", $"location '{text}'", problem, "Write BRIDGE/PORT[/PORT...], for example hb0/rp1/sw0; +acs after a port, +noforward after the bridge");

    private string? FirstRedirecting(int from)
    {
        for (int i = from; i < _ports.Length; i++)
        {
            if (_redirects[i])
                return string.Join('/', _ports[..(i + 1)]);
        }

        return null;
    }
}

/// <summary>Whether one device reaches another's memory.</summary>
/// <param name="IsOpen">True when it does.</param>
/// <param name="Reason">Why, or why not, for people.</param>
public readonly record struct PeerPath(bool IsOpen, string Reason);
