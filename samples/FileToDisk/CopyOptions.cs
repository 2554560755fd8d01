namespace FileToDisk;

/// <summary>What is copied: the configuration section <c>Copy</c>.</summary>
public sealed class CopyOptions
{
    /// <summary>The file.</summary>
    public string File { get; set; } = "";

    /// <summary>The device, as an expression: a driver of the plugin folder knows its word.</summary>
    public string Device { get; set; } = "";

    /// <summary>Who owns the buffer that the device works on.</summary>
    public string Exporter { get; set; } = "moving";
}
