using DmaBufIo.Pci.Model.Protocol;

namespace DmaBufIo.Pci.Model;

/// <summary>Admin commands: dispatch, queues, Identify, Abort.</summary>
public sealed partial class NvmeControllerModel
{
    /// <summary>Not a status: the command stays outstanding.</summary>
    private const ushort Held = 0xFFFF;

    private static readonly byte[] s_zeros = new byte[4096];
    private readonly byte[] _page = new byte[4096];
    private readonly PrpWalker _walker;
    private uint _result;

    private ushort ExecuteAdmin(in NvmeCommand command)
    {
        BeginCommand(0, command);
        if (AdminOpcode.All.IndexOf(command.Opcode) < 0)
            return NvmeStatus.InvalidOpcode;
        ushort status = CheckCommon(command);
        if (status != NvmeStatus.Success)
            return status;
        return command.Opcode switch
        {
            AdminOpcode.DeleteSubmissionQueue => DeleteSubmissionQueue(command),
            AdminOpcode.CreateSubmissionQueue => CreateSubmissionQueue(command),
            AdminOpcode.GetLogPage => GetLogPage(command),
            AdminOpcode.DeleteCompletionQueue => DeleteCompletionQueue(command),
            AdminOpcode.CreateCompletionQueue => CreateCompletionQueue(command),
            AdminOpcode.Identify => Identify(command),
            AdminOpcode.Abort => Abort(command),
            AdminOpcode.SetFeatures => SetFeatures(command),
            AdminOpcode.GetFeatures => GetFeatures(command),
            _ => HoldAsyncEventRequest(command),
        };
    }

    private ushort CreateCompletionQueue(in NvmeCommand command)
    {
        int id = (int)(command.Cdw10 & 0xFFFF);
        int size = (int)(command.Cdw10 >> 16) + 1;
        int vector = (int)(command.Cdw11 >> 16);
        ushort status = First(
            CheckNoNamespace(command),
            CheckDwords(command, uint.MaxValue, 0xFFFF_0003),
            CheckQueueMemory(command, (_cc >> 20) & 0xF, 4));
        if (id == 0 || id > _completionQueuesGranted || _completionQueues[id] is not null)
            return NvmeStatus.InvalidQueueIdentifier;
        if (size < 2 || size > _options.MaxQueueEntries)
            return NvmeStatus.InvalidQueueSize;
        if (status != NvmeStatus.Success)
            return status;
        bool interruptsEnabled = (command.Cdw11 & 2) != 0;
        if (interruptsEnabled && vector >= InterruptVectors)
            return NvmeStatus.InvalidInterruptVector;
        ClearDoorbell(id, completion: true);
        Volatile.Write(ref _completionQueues[id], new CompletionQueue(id, command.Prp1, size, interruptsEnabled, vector));
        return NvmeStatus.Success;
    }

    private ushort CreateSubmissionQueue(in NvmeCommand command)
    {
        int id = (int)(command.Cdw10 & 0xFFFF);
        int size = (int)(command.Cdw10 >> 16) + 1;
        int completionId = (int)(command.Cdw11 >> 16);
        ushort status = First(
            CheckNoNamespace(command),
            CheckDwords(command, uint.MaxValue, 0xFFFF_0007),
            CheckQueueMemory(command, (_cc >> 16) & 0xF, 6));
        bool identifiersValid = id != 0 && id <= _submissionQueuesGranted && completionId != 0 && completionId <= _options.MaxQueues;
        if (!identifiersValid || _submissionQueues[id] is not null)
            return NvmeStatus.InvalidQueueIdentifier;
        if (size < 2 || size > _options.MaxQueueEntries)
            return NvmeStatus.InvalidQueueSize;
        if (_completionQueues[completionId] is not { } completions)
            return NvmeStatus.CompletionQueueInvalid;
        if (status != NvmeStatus.Success)
            return status;
        completions.Users++;
        ClearDoorbell(id, completion: false);
        Volatile.Write(ref _submissionQueues[id], new SubmissionQueue(id, command.Prp1, size, completions));
        ListActiveQueues();
        return NvmeStatus.Success;
    }

    private ushort CheckQueueMemory(in NvmeCommand command, uint entrySize, uint requiredEntrySize)
    {
        if ((command.Cdw11 & 1) == 0)
            return Broken("P13", command.Cdw11, "CAP.CQR is 1 but PC is 0");
        if ((command.Prp1 & ((ulong)_pageSize - 1)) != 0)
            return Broken("P13", command.Prp1, "the queue's base is not page aligned", NvmeStatus.PrpOffsetInvalid);
        if (_options.Strict && command.Prp2 != 0)
            return Broken("reserved", command.Prp2, "creating a queue leaves PRP2 0");
        if (entrySize != requiredEntrySize)
            return Broken("CC", _cc, "CC.IOSQES must be 6 and CC.IOCQES 4 before a queue is created");
        return NvmeStatus.Success;
    }

    private ushort DeleteSubmissionQueue(in NvmeCommand command)
    {
        int id = (int)(command.Cdw10 & 0xFFFF);
        ushort status = First(CheckNoNamespace(command), CheckDwords(command, 0xFFFF), CheckNoData(command));
        if (status != NvmeStatus.Success)
            return status;
        if (id == 0 || id >= _submissionQueues.Length || _submissionQueues[id] is not { } queue)
            return NvmeStatus.InvalidQueueIdentifier;

        // Commands that wait in the queue are dropped: the host may reuse them once this command completes.
        queue.Completions.Users--;
        Volatile.Write(ref _submissionQueues[id], null);
        ListActiveQueues();
        return NvmeStatus.Success;
    }

    private ushort DeleteCompletionQueue(in NvmeCommand command)
    {
        int id = (int)(command.Cdw10 & 0xFFFF);
        ushort status = First(CheckNoNamespace(command), CheckDwords(command, 0xFFFF), CheckNoData(command));
        if (status != NvmeStatus.Success)
            return status;
        if (id == 0 || id >= _completionQueues.Length || _completionQueues[id] is not { } queue)
            return NvmeStatus.InvalidQueueIdentifier;
        if (queue.Users > 0)
            return NvmeStatus.InvalidQueueDeletion;
        Volatile.Write(ref _completionQueues[id], null);
        return NvmeStatus.Success;
    }

    private ushort Identify(in NvmeCommand command)
    {
        int structure = (int)(command.Cdw10 & 0xFF);
        uint commandSet = command.Cdw11 >> 24;
        ushort status = CheckDwords(command, 0xFF, structure == 6 ? 0xFF00_0000 : 0);
        if (status != NvmeStatus.Success)
            return status;
        Array.Clear(_page);
        switch (structure)
        {
            case 0 or 3:
                if (command.NamespaceId != 1)
                    return NvmeStatus.InvalidNamespace;
                if (structure == 0)
                    IdentifyData.Namespace(_page, _namespace);
                else
                    IdentifyData.NamespaceDescriptors(_page, _namespace);
                break;
            case 1:
                status = CheckNoNamespace(command);
                IdentifyData.Controller(_page, _options, _namespace.UniqueId);
                break;
            case 2:
                if (command.NamespaceId >= BroadcastNamespace - 1)
                    return NvmeStatus.InvalidNamespace;
                IdentifyData.ActiveNamespaces(_page, command.NamespaceId);
                break;
            case 6:
                // The NVM command set's limits: all zero, none beyond MDTS.
                status = commandSet != 0 ? NvmeStatus.InvalidField : CheckNoNamespace(command);
                break;
            default:
                return NvmeStatus.InvalidField;
        }

        return status != NvmeStatus.Success ? status : SendToHost(command, _page, IdentifyData.Size);
    }

    // Commands are executed when they are fetched, so only held asynchronous event requests can be aborted.
    private ushort Abort(in NvmeCommand command)
    {
        ushort status = First(CheckNoNamespace(command), CheckDwords(command, uint.MaxValue), CheckNoData(command));
        if (status != NvmeStatus.Success)
            return status;
        bool aborted = (command.Cdw10 & 0xFFFF) == 0 && AbortAsyncEventRequest((ushort)(command.Cdw10 >> 16));
        _result = aborted ? 0u : 1u;
        return NvmeStatus.Success;
    }
}
