namespace DmaBufIo.ContractTests;

/// <summary>What a fact of one contract works with. For a fact that finds something a stage leaves with the world how it is closed then (<see cref="ContractWorld.AtGiveUp"/>).</summary>
internal interface IStage
{
    /// <summary>The fact has found nothing: closes everything, and looks whether the plugin has given everything back.</summary>
    void Close();
}
