using DmaBufIo.Errors;

namespace DmaBufIo.Tokens;

/// <summary>Somebody who has asked for a map by <see cref="DmaBufToken.RequestMap"/>.</summary>
public interface IMapWaiter
{
    /// <summary>
    /// The request is answered; called on a worker, without locks, once per request. The map may be gone again by the time it is used: then ask again.
    /// </summary>
    /// <param name="token">The token.</param>
    /// <param name="status"><c>Ok</c>: there was a map. Else why there is none, as <see cref="DmaBufToken.GetMap"/> answers.</param>
    void MapReady(DmaBufToken token, Errno status);
}
