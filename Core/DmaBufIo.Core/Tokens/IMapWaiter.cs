using DmaBufIo.Errors;
using DmaBufIo.Io;

namespace DmaBufIo.Tokens;

/// <summary>Somebody who has asked for a map by <see cref="DmaBufToken.RequestMap"/>.</summary>
public interface IMapWaiter
{
    /// <summary>
    /// There is a map, and it stays usable for as long as the call takes, also when it is killed meanwhile: the worker holds a reference. Called on that worker, where it may not sleep; an invalidation
    /// may be waiting for the return. Whoever does a bounded piece of its work here gets on however often the buffer moves.
    /// </summary>
    /// <param name="token">The token.</param>
    /// <param name="map">The map.</param>
    /// <param name="context">The worker's context, entered: for references on other maps, which are dropped before the return.</param>
    void MapReady(DmaBufToken token, DmaMap map, IoContext context);

    /// <summary>No map can be made. Called on a worker, without locks.</summary>
    /// <param name="token">The token.</param>
    /// <param name="status">Why not, as <see cref="DmaBufToken.GetMap"/> answers.</param>
    void MapFailed(DmaBufToken token, Errno status);
}
