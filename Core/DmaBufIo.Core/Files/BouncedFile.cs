using DmaBufIo.Tokens;

namespace DmaBufIo.Files;

/// <summary>A file as the owner of the token through which the CPU sees a buffer: keeps the file open (T2), and says in messages which of the two tokens is meant.</summary>
internal sealed class BouncedFile(IoFile file) : ITokenOwner
{
    public string Name => $"{file.Name}, bounced";

    public void Get() => file.Get();

    public void Put() => file.Put();
}
