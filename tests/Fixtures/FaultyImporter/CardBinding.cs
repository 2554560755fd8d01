using DmaBufIo.Block;
using DmaBufIo.Dma;
using DmaBufIo.Errors;
using DmaBufIo.Io;
using DmaBufIo.Memory;
using DmaBufIo.Plugins;
using DmaBufIo.Sync;

namespace DmaBufIo.Fixtures.FaultyImporter;

/// <summary>The driver bound to one card: its queues, reset and removal.</summary>
/// <remarks>
/// The order of reset and removal: queues take nothing, the engine stands still, requests are ended, maps are killed, contexts are reaped in the place of owners that may be idle. Only the
/// removal waits for the maps, at the very end (T11).
/// </remarks>
internal sealed class CardBinding : IPciBinding
{
    private readonly Card _card;
    private readonly Disk _disk;
    private readonly Fault _fault;
    private readonly SleepingMutex _control;
    private readonly List<DeviceRange> _mailboxes = [];
    private readonly List<CardQueue> _queues = [];
    private bool _isRemoved;

    internal CardBinding(Card card, string name, Fault fault)
    {
        _card = card;
        _fault = fault;
        _control = new SleepingMutex($"queues of {name}");
        _disk = new Disk(card, name, fault) { Binding = this };
        try
        {
            _mailboxes.Add(MapMailbox("mailbox in"));
            _mailboxes.Add(MapMailbox("mailbox out"));
        }
        catch when (!fault.Is("forgets a mailbox at open"))
        {
            FreeMailboxes();
            throw;
        }
    }

    public IReadOnlyList<BlockDevice> BlockDevices => [_disk];

    public void Reset()
    {
        _control.Lock();
        try
        {
            _disk.Device.ThrowIfRemoved("faulty-importer");
            VisitAll(static queue => queue.IsFrozen = true);
            _card.Stop();
            if (_fault.Is("a reset waits for what it keeps"))
            {
                _disk.Device.KillMaps();
                while (_disk.LiveMaps != 0)
                    Thread.Sleep(1);
            }

            if (_fault.Is("a reset loses the requests"))
                VisitAll(static queue => queue.Forget());
            else
                VisitAll(queue => queue.Cancel(Errno.ECANCELED, doneOnly: _fault.Is("a reset ends only what was done")));
            if (!_fault.Is("a reset keeps the maps"))
                _disk.Device.KillMaps();
            ReapAll();
            _card.Start();
            VisitAll(static queue => queue.IsFrozen = false);
        }
        finally
        {
            _control.Unlock();
        }
    }

    public void Dispose()
    {
        _control.Lock();
        try
        {
            if (_isRemoved)
                return;
            _isRemoved = true;
            if (_fault.Is("a removal waits before it ends requests"))
            {
                _card.Stop();
                _disk.Device.Remove();
            }

            bool isTold = !_fault.Is("a removal tells nobody");
            if (isTold)
                _disk.Device.MarkRemoved();
            VisitAll(static queue => queue.IsFrozen = true);
            _card.Stop();
            VisitAll(queue =>
            {
                queue.Cancel(Errno.ENODEV);
                queue.IsFrozen = !isTold;
            });
            _disk.Device.KillMaps();
            ReapAll();
            if (isTold)
                _disk.Device.Remove();
        }
        finally
        {
            _control.Unlock();
        }

        _disk.FreeLists();
        FreeMailboxes();
        _card.Dispose();
    }

    internal CardQueue Open(IoContext context, BioPool bios, int depth)
    {
        var queue = new CardQueue(_disk, this, context, bios, depth);
        _control.Lock();
        try
        {
            _queues.Add(queue);
            _card.Change(queues => [.. queues, queue.Commands]);
        }
        finally
        {
            _control.Unlock();
        }

        return queue;
    }

    internal void Close(CardQueue queue)
    {
        _control.Lock();
        try
        {
            _queues.Remove(queue);
            _card.Change(queues => [.. queues.Where(q => q != queue.Commands)]);
        }
        finally
        {
            _control.Unlock();
        }
    }

    private void VisitAll(Action<CardQueue> act)
    {
        foreach (CardQueue queue in _queues)
            queue.Context.Visit(() => act(queue));
    }

    private void ReapAll()
    {
        foreach (IoContext context in _queues.Select(static q => q.Context).Distinct())
            context.ReapAsVisitor();
    }

    private DeviceRange MapMailbox(string name)
    {
        var memory = MemoryRegion.Allocate(name, 4096);
        try
        {
            return _card.AddressSpace.Map(new MemoryRange(memory, 0, memory.Length), DmaDirection.Bidirectional, name);
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    private void FreeMailboxes()
    {
        foreach (DeviceRange mailbox in _mailboxes)
        {
            _card.AddressSpace.Unmap(mailbox);
            mailbox.Memory.Region.Dispose();
        }

        _mailboxes.Clear();
    }
}
