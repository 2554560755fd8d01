namespace DmaBufIo.Tokens;

/// <summary>The file of a token, as far as the token knows it: something it keeps open (T2).</summary>
public interface ITokenOwner
{
    /// <summary>A name for messages.</summary>
    string Name { get; }

    /// <summary>Takes a reference.</summary>
    void Get();

    /// <summary>Drops a reference; called on a worker, may sleep.</summary>
    void Put();
}
