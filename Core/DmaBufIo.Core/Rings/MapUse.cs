using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <summary>
/// A registration, with a map of its token or without one: what a request needs to know when it ends. Requests name it by a number: storing a reference per
/// request would cost a write barrier each whenever another buffer is used than before.
/// </summary>
/// <param name="id">Its place in the ring's table, from 1; requests without a registration have 0.</param>
/// <param name="registration">The registration.</param>
/// <param name="map">The map that requests hold references on; null for requests that hold none.</param>
internal sealed class MapUse(int id, Registration registration, DmaMap? map)
{
    internal int Id { get; } = id;

    internal Registration Registration { get; } = registration;

    internal DmaMap? Map { get; } = map;
}
