namespace DmaBufIo.Hosting;

/// <summary>Owns a thing until someone else takes it over.</summary>
internal sealed class Handover<T>(T value) : IDisposable
    where T : IDisposable
{
    private bool _released;

    internal T Value => value;

    internal void Release() => _released = true;

    public void Dispose()
    {
        if (!_released)
            value.Dispose();
    }
}
