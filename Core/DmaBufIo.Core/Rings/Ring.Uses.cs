using System.Runtime.CompilerServices;
using DmaBufIo.Tokens;

namespace DmaBufIo.Rings;

/// <content>The table of registrations and maps that requests name by number. Changes when a registration or a map is new, not per request.</content>
public sealed partial class Ring
{
    private MapUse?[] _uses = new MapUse?[8];

    private Registration? RegistrationOf(in RingRequest request) => _uses[request.Use]?.Registration;

    /// <summary>For onlookers, who may see a number that is newer than the table.</summary>
    private DmaMap? PeekMap(in RingRequest request)
    {
        MapUse?[] uses = _uses;
        int id = request.Use;
        return (uint)id < (uint)uses.Length ? uses[id]?.Map : null;
    }

    [Diagnostics.HotPath]
    private MapUse UseOf(Registration registration, DmaMap map) =>
        registration.Mapped is { } use && ReferenceEquals(use.Map, map) ? use : registration.Mapped = NewUse(registration, map);

    [MethodImpl(MethodImplOptions.NoInlining)]
    private MapUse NewUse(Registration registration, DmaMap? map)
    {
        // Maps that were killed are named until their last request has ended.
        bool[] busy = new bool[_uses.Length];
        foreach (ref readonly RingRequest request in _requests.AsSpan())
            busy[request.Use] |= request.State is RequestState.Parked or RequestState.Partial or RequestState.Bounced or RequestState.Issued;
        int free = 0;
        for (int id = _uses.Length - 1; id > 0; id--)
        {
            MapUse? old = _uses[id];
            if (old is not null && (busy[id] || old.Registration.IsKept(old)))
                continue;
            _uses[id] = null;
            free = id;
        }

        if (free == 0)
        {
            free = _uses.Length;
            Array.Resize(ref _uses, 2 * free);
        }

        return _uses[free] = new MapUse(free, registration, map);
    }

    /// <summary>
    /// Clears what requests that have ended left behind of registrations, so that nothing keeps a driver's types alive. Looks at the whole table: registrations
    /// end seldom. Not while bios are told to have ended, of which those of the batch are not given back yet; and not in a visit: a place that looks free may
    /// be being prepared at this moment.
    /// </summary>
    private void Forget()
    {
        if (_finished.Count == 0)
            return;
        for (int tag = 0; tag < _requests.Length; tag++)
        {
            ref RingRequest request = ref _requests[tag];
            if (RegistrationOf(request) is not { } registration || !_finished.Contains(registration))
                continue;
            request.Use = 0;
            if (request.State == RequestState.Free)
                _ios[tag].Iter = default;
            else if (request.State == RequestState.Prepared)
                _ios[tag].Iter.Unbind();
        }

        for (int id = 1; id < _uses.Length; id++)
        {
            if (_uses[id] is { } use && _finished.Contains(use.Registration))
                _uses[id] = null;
        }

        _finished.Clear();
        _bios.Forget();
    }
}
