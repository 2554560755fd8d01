using System.Runtime.ExceptionServices;

namespace DmaBufIo.Hosting;

/// <summary>
/// Things that are given back in the reverse order of their making. One that throws does not keep the others from being given back.
/// </summary>
internal sealed class OwnedStack : IDisposable
{
    private readonly Stack<IDisposable> _owned = new();

    internal T Push<T>(T owned)
        where T : IDisposable
    {
        _owned.Push(owned);
        return owned;
    }

    /// <exception cref="AggregateException">Several of them threw. A single exception is thrown as it is.</exception>
    public void Dispose()
    {
        List<Exception>? errors = null;
        while (_owned.TryPop(out IDisposable? owned))
        {
            try
            {
                owned.Dispose();
            }
            catch (Exception e)
            {
                (errors ??= []).Add(e);
            }
        }

        if (errors is { Count: 1 })
            ExceptionDispatchInfo.Throw(errors[0]);
        if (errors is not null)
            throw new AggregateException(errors);
    }
}
