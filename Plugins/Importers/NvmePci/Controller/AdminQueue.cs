using System.Diagnostics;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Importers.NvmePci.Native;
using DmaBufIo.Importers.NvmePci.Protocol;
using DmaBufIo.Pci;
using DmaBufIo.Sync;

namespace DmaBufIo.Importers.NvmePci.Controller;

/// <summary>The admin queue pair: one command at a time, polled. May sleep.</summary>
internal sealed class AdminQueue : IDisposable
{
    internal const int Entries = 32;
    private const int DataSize = 4096; // the size of every Identify data structure
    private readonly PciFunction _function;
    private readonly ControllerRegisters _registers;
    private readonly SleepingMutex _mutex;
    private readonly TimeSpan _timeout;
    private readonly string _name;
    private readonly DeviceRegion _memory;
    private readonly DeviceMemory<NvmeCommand> _submission;
    private readonly DeviceMemory<NvmeCompletion> _completion;
    private readonly int _dataOffset;
    private int _tail;
    private int _head;
    private uint _phase = 1;
    private ushort _nextId;
    private bool _broken;

    internal AdminQueue(PciFunction function, ControllerRegisters registers, string name, TimeSpan timeout)
    {
        _function = function;
        _registers = registers;
        _name = name;
        _timeout = timeout;
        _mutex = new SleepingMutex($"admin queue of {name}");
        int page = 1 << registers.PageShift;
        _dataOffset = 2 * page;
        _memory = new DeviceRegion(function.AddressSpace, $"{name} admin queue", 3 * page, page);
        _submission = _memory.View<NvmeCommand>(0, Entries * 64);
        _completion = _memory.View<NvmeCompletion>(page, Entries * 16);
    }

    internal ulong SubmissionAddress => _memory.Address;

    internal ulong CompletionAddress => _memory.Address + (ulong)(_dataOffset / 2);

    /// <summary>Forgets everything for a controller that is about to be enabled.</summary>
    internal void Restart()
    {
        Lock();
        _submission.Clear();
        _completion.Clear();
        _tail = 0;
        _head = 0;
        _phase = 1;
        _broken = false;
        _mutex.Unlock();
    }

    /// <summary>Executes a command without data.</summary>
    /// <param name="command">The command; its identifier is set here.</param>
    /// <param name="what">For messages: "create I/O submission queue 1".</param>
    /// <returns>Dword 0 of the completion.</returns>
    /// <exception cref="DmaBufIoException">It failed (the errno of its status), took too long (<c>ETIMEDOUT</c>), or the function is gone
    /// (<c>ENODEV</c>).</exception>
    internal uint Execute(NvmeCommand command, string what)
    {
        Lock();
        try
        {
            return Run(ref command, what);
        }
        finally
        {
            _mutex.Unlock();
        }
    }

    /// <summary>Executes a command whose failure the caller expects.</summary>
    /// <param name="command">The command, without data.</param>
    /// <returns>The status code; -1 when there was no answer.</returns>
    internal int TryExecute(NvmeCommand command)
    {
        Lock();
        try
        {
            return _broken ? -1 : Issue(ref command, "delete a queue", out _);
        }
        catch (DmaBufIoException)
        {
            return -1;
        }
        finally
        {
            _mutex.Unlock();
        }
    }

    /// <summary>Executes Identify.</summary>
    /// <param name="structure">CNS.</param>
    /// <param name="nsid">The namespace, or where a list begins.</param>
    /// <param name="destination">4,096 bytes.</param>
    /// <param name="what">For messages.</param>
    internal void Identify(uint structure, uint nsid, Span<byte> destination, string what)
    {
        Lock();
        try
        {
            var command = new NvmeCommand
            {
                Dword0 = AdminOpcode.Identify,
                NamespaceId = nsid,
                Dword10 = structure,
                Prp1 = _memory.Address + (ulong)_dataOffset,
            };
            _ = Run(ref command, what);
            _memory.Span(_dataOffset, DataSize).CopyTo(destination);
        }
        finally
        {
            _mutex.Unlock();
        }
    }

    /// <summary>Frees the memory; the controller is disabled or gone.</summary>
    public void Dispose() => _memory.Dispose();

    private void Lock()
    {
        if (_mutex.Lock() != Errno.Ok)
            throw new InvalidOperationException($"An admin command of {_name} was issued from within another.");
    }

    private uint Run(ref NvmeCommand command, string what)
    {
        if (_broken)
            throw NvmeError.Make(Errno.EIO, Subject(what), "an earlier command was never answered, its answer may yet come", "Reset it");
        int status = Issue(ref command, what, out uint result);
        if (status == 0)
            return result;
        string problem = $"the controller answered {NvmeStatus.Describe(status)}";
        throw NvmeError.Make(NvmeStatus.ToErrno(status), Subject(what), problem, "See the controller's error log");
    }

    private int Issue(ref NvmeCommand command, string what, out uint result)
    {
        ushort id = _nextId++;
        command.Dword0 |= (uint)id << 16;
        _submission[_tail] = command;
        _tail = Next(_tail);
        _registers.Ring(_registers.TailDoorbell(0), _tail);
        uint last = WaitForCompletion(what);
        result = _completion[_head].Result;
        _head = Next(_head);
        if (_head == 0)
            _phase ^= 1;
        _registers.Ring(_registers.HeadDoorbell(0), _head);
        if ((ushort)last == id)
            return NvmeStatus.CodeOf(last);
        _broken = true;
        throw NvmeError.Make(Errno.EIO, Subject(what), $"the controller answered command {(ushort)last} instead of {id}", "Reset it");
    }

    private uint WaitForCompletion(string what)
    {
        const int RoundsPerLook = 64; // registers may be slow (vfio-user: a message each)
        long started = Stopwatch.GetTimestamp();
        var spin = new SpinWait();
        for (int round = 1; ; round++)
        {
            bool late = Stopwatch.GetElapsedTime(started) > _timeout;
            _function.Advance();

            // Acquire: the other dwords are read after the phase that makes them valid.
            uint last = Volatile.Read(ref _completion[_head].Dword3);
            if (((last >> 16) & 1) == _phase)
                return last;
            if (late || round % RoundsPerLook == 0)
            {
                if (_registers.IsGone)
                    throw NvmeError.Gone(Subject(what));
                if (late || _registers.IsFatal)
                {
                    _broken = true;
                    throw late ? NvmeError.TimedOut(Subject(what), "no answer", _timeout) : NvmeError.Fatal(Subject(what));
                }
            }

            spin.SpinOnce();
        }
    }

    private static int Next(int index) => index + 1 == Entries ? 0 : index + 1;

    private string Subject(string what) => $"{_name}, {what}";
}
