namespace DmaBufIo.ContractTests;

/// <summary>How the code of the plugin is loaded for a fact.</summary>
internal enum PluginCode
{
    /// <summary>As it is.</summary>
    AsWritten,

    /// <summary>With counters of steps, locks and interlocked instructions (<see cref="PluginMeter"/>).</summary>
    Metered,

    /// <summary>Telling behind each look at what another thread may change (<see cref="PluginMeter.OnLook"/>): what comes between a look and its use, once in a million, can be made to come there.</summary>
    Watched,
}
