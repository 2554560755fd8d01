using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>Get Features and Set Features. Nothing is saved over a reset.</summary>
public sealed partial class NvmeControllerModel
{
    private const int FeatureArbitration = 0x01;
    private const int FeaturePowerManagement = 0x02;
    private const int FeatureTemperatureThreshold = 0x04;
    private const int FeatureErrorRecovery = 0x05;
    private const int FeatureVolatileWriteCache = 0x06;
    private const int FeatureNumberOfQueues = 0x07;
    private const int FeatureInterruptCoalescing = 0x08;
    private const int FeatureInterruptVector = 0x09;
    private const int FeatureWriteAtomicity = 0x0A;
    private const int FeatureAsyncEvents = 0x0B;
    private readonly uint[] _features = new uint[16];
    private readonly uint[] _vectorConfig;
    private int _arbitrationBurst;
    private int _submissionQueuesGranted;
    private int _completionQueuesGranted;
    private bool _writeCacheEnabled;
    private uint _temperatureOver;
    private uint _temperatureUnder;

    private void ResetFeatures()
    {
        Array.Clear(_features);
        for (int i = 0; i < _vectorConfig.Length; i++)
            _vectorConfig[i] = (uint)i;
        SetArbitration(3);
        _submissionQueuesGranted = _completionQueuesGranted = _options.MaxQueues;
        _writeCacheEnabled = _options.VolatileWriteCache;
        _temperatureOver = IdentifyData.WarningTemperature;
        _temperatureUnder = 0;
    }

    private void SetArbitration(uint value)
    {
        _features[FeatureArbitration] = value;
        int power = (int)(value & 7);
        _arbitrationBurst = power == 7 ? int.MaxValue : 1 << power;
    }

    private ushort SetFeatures(in NvmeCommand command)
    {
        int feature = (int)(command.Cdw10 & 0xFF);
        uint value = command.Cdw11;
        if (!IsFeature(feature))
            return NvmeStatus.InvalidField;
        if ((command.Cdw10 & (1u << 31)) != 0)
            return NvmeStatus.FeatureNotSaveable;
        ushort status = First(CheckDwords(command, 0xFF, uint.MaxValue), CheckNoData(command));
        if (status != NvmeStatus.Success)
            return status;
        if (command.NamespaceId is not (0 or BroadcastNamespace))
            return NvmeStatus.FeatureNotNamespaceSpecific;
        switch (feature)
        {
            case FeatureArbitration:
                if ((value & 0xF8) != 0 && _options.Strict)
                    return Broken("reserved", value, "bits 7:3 of the arbitration feature are not 0");
                SetArbitration(value);
                break;
            case FeaturePowerManagement:
                if ((value & 0x1F) != 0)
                    return NvmeStatus.InvalidField; // power state 0 is the only one
                _features[feature] = value & 0xE0;
                break;
            case FeatureTemperatureThreshold:
                return SetTemperature(value);
            case FeatureVolatileWriteCache:
                if (!_options.VolatileWriteCache)
                    return NvmeStatus.InvalidField;
                return SetWriteCache((value & 1) != 0);
            case FeatureNumberOfQueues:
                return SetNumberOfQueues(value);
            case FeatureInterruptVector:
                if ((value & 0xFFFF) >= (uint)_vectorConfig.Length)
                    return NvmeStatus.InvalidField;
                _vectorConfig[value & 0xFFFF] = value & 0x1FFFF;
                break;
            case FeatureAsyncEvents:
                if ((value & ~0x1Fu) != 0)
                    return NvmeStatus.InvalidField; // only the critical warnings: OAES is 0
                _features[feature] = value;
                ReportTemperature();
                break;
            default:
                _features[feature] = value;
                break;
        }

        return NvmeStatus.Success;
    }

    private ushort GetFeatures(in NvmeCommand command)
    {
        int feature = (int)(command.Cdw10 & 0xFF);
        if (!IsFeature(feature))
            return NvmeStatus.InvalidField;
        if (((command.Cdw10 >> 8) & 7) != 0)
            return NvmeStatus.InvalidField; // Select is not supported: ONCS bit 4 is 0
        ushort status = First(CheckDwords(command, 0xFF, uint.MaxValue), CheckNoData(command));
        if (status != NvmeStatus.Success)
            return status;
        switch (feature)
        {
            case FeatureTemperatureThreshold:
                if (((command.Cdw11 >> 16) & 0xF) != 0 || ((command.Cdw11 >> 20) & 3) > 1)
                    return NvmeStatus.InvalidField;
                _result = ((command.Cdw11 >> 20) & 3) == 0 ? _temperatureOver : _temperatureUnder;
                break;
            case FeatureVolatileWriteCache:
                if (!_options.VolatileWriteCache)
                    return NvmeStatus.InvalidField;
                _result = _writeCacheEnabled ? 1u : 0u;
                break;
            case FeatureNumberOfQueues:
                _result = (uint)(_submissionQueuesGranted - 1) | ((uint)(_completionQueuesGranted - 1) << 16);
                break;
            case FeatureInterruptVector:
                if ((command.Cdw11 & 0xFFFF) >= (uint)_vectorConfig.Length)
                    return NvmeStatus.InvalidField;
                _result = _vectorConfig[command.Cdw11 & 0xFFFF];
                break;
            default:
                _result = _features[feature];
                break;
        }

        return NvmeStatus.Success;
    }

    private static bool IsFeature(int feature) =>
        feature is >= FeatureArbitration and <= FeatureAsyncEvents and not 3;

    private ushort SetTemperature(uint value)
    {
        if (((value >> 16) & 0xF) is not (0 or 0xF) || ((value >> 20) & 3) > 1)
            return NvmeStatus.InvalidField; // there is the composite sensor only
        if (((value >> 20) & 3) == 0)
            _temperatureOver = value & 0xFFFF;
        else
            _temperatureUnder = value & 0xFFFF;
        ReportTemperature();
        return NvmeStatus.Success;
    }

    private ushort SetWriteCache(bool enabled)
    {
        // What was cached so far must be durable before the cache counts as off.
        if (_writeCacheEnabled && !enabled && !_options.ReadOnly && FlushStore(_currentQueue, _currentCommand) != Errors.Errno.Ok)
            return NvmeStatus.WriteFault;
        _writeCacheEnabled = enabled;
        return NvmeStatus.Success;
    }

    private ushort SetNumberOfQueues(uint value)
    {
        int submission = (int)(value & 0xFFFF);
        int completion = (int)(value >> 16);
        if (submission == 0xFFFF || completion == 0xFFFF)
            return NvmeStatus.InvalidField;
        if (_activeCount > 1 || _completionQueues.AsSpan(1).ContainsAnyExcept((CompletionQueue?)null))
            return NvmeStatus.CommandSequenceError;
        _submissionQueuesGranted = Math.Min(submission + 1, _options.MaxQueues);
        _completionQueuesGranted = Math.Min(completion + 1, _options.MaxQueues);
        _result = (uint)(_submissionQueuesGranted - 1) | ((uint)(_completionQueuesGranted - 1) << 16);
        return NvmeStatus.Success;
    }
}
