namespace DmaBufIo.Fixtures.Library;

/// <summary>A private dependency of a plugin: it lies in the plugin's folder and nowhere else.</summary>
public static class Shop
{
    public static string Model => "private library at work";
}
