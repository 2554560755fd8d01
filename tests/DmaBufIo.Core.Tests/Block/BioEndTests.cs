using DmaBufIo.Block;
using DmaBufIo.Diagnostics;
using DmaBufIo.Errors;

namespace DmaBufIo.Tests.Block;

/// <summary>How bios end: once each, told by dispatch (N8).</summary>
public sealed class BioEndTests : IDisposable
{
    private readonly BioPool _bios = new(4);
    private readonly List<DriverFault> _reported = [];

    public BioEndTests() => DmaBufIoDiagnostics.DriverFaulted += Note;

    public void Dispose()
    {
        DmaBufIoDiagnostics.DriverFaulted -= Note;
        _bios.Dispose();
    }

    [Fact]
    public void A_bios_owner_is_told_once_by_dispatch_and_not_by_the_driver()
    {
        var owner = new Owner(_bios);
        int first = _bios.AddOwner(new Owner(_bios));
        int number = _bios.AddOwner(owner);
        Assert.NotEqual(first, number);
        Assert.True(_bios.TryAllocateFlush(out BioHandle bio));
        _bios[bio].Owner = number;
        _bios.End(bio, Errno.EIO);
        Assert.Empty(owner.Ended);
        Assert.Equal(1, _bios.Dispatch());
        Assert.Equal([Errno.EIO], owner.Ended);
        Assert.Equal(0, _bios.Dispatch());
    }

    [Fact]
    public void Bios_that_end_while_their_owners_are_told_are_told_in_the_same_dispatch()
    {
        var owner = new Owner(_bios);
        int number = _bios.AddOwner(owner);
        var bios = new BioHandle[3];
        for (int round = 0; round < 5; round++)
        {
            for (int i = 0; i < 3; i++)
            {
                Assert.True(_bios.TryAllocateFlush(out bios[i]));
                _bios[bios[i]].Owner = number;
            }

            owner.OnEnded = () =>
            {
                owner.OnEnded = null;
                _bios.End(bios[2], Errno.Ok);
            };
            _bios.End(bios[0], Errno.Ok);
            _bios.End(bios[1], Errno.Ok);
            Assert.Equal(3, _bios.Dispatch());
            Assert.Equal(4, _bios.Free);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void N8_a_bio_that_a_driver_ends_again_is_told_once_and_reported(bool afterItWasGivenBack)
    {
        var owner = new Owner(_bios);
        BioHandle bio = Take(owner);
        _bios.End(bio, Errno.EIO);
        if (afterItWasGivenBack)
            _bios.Dispatch();
        _bios.End(bio, Errno.Ok);
        _bios.Dispatch();
        Assert.Equal([Errno.EIO], owner.Ended);
        AssertReported(bio);
        Assert.Equal(4, _bios.Free);
    }

    [Fact]
    public void N8_a_bio_that_a_device_has_refused_and_ends_all_the_same_is_reported()
    {
        BioHandle bio = Take(new Owner(_bios));
        _bios.Release(bio);
        _bios.End(bio, Errno.EBUSY);
        Assert.Equal(0, _bios.Dispatch());
        AssertReported(bio);
    }

    [Fact]
    public void N8_ending_a_bio_that_nobody_has_taken_is_reported()
    {
        _bios.End(new BioHandle(2), Errno.Ok);
        Assert.Equal(0, _bios.Dispatch());
        AssertReported(new BioHandle(2));
    }

    [Fact]
    public void N8_a_bio_that_its_owner_submits_again_ends_once_more()
    {
        var again = new Again(_bios);
        Assert.True(_bios.TryAllocateFlush(out BioHandle bio, _bios.AddOwner(again)));
        _bios.End(bio, Errno.ECANCELED);
        Assert.Equal(1, _bios.Dispatch());
        _bios.End(bio, Errno.Ok);
        Assert.Equal(1, _bios.Dispatch());
        Assert.Equal(2, again.Times);
        lock (_reported)
            Assert.Empty(_reported);
    }

    private BioHandle Take(Owner owner)
    {
        Assert.True(_bios.TryAllocateFlush(out BioHandle bio, _bios.AddOwner(owner)));
        return bio;
    }

    private void AssertReported(BioHandle bio)
    {
        DriverFault fault;
        lock (_reported)
            fault = Assert.Single(_reported);
        var error = Assert.IsType<DmaBufIoException>(fault.Exception);
        Assert.Equal(("N8", Errno.EINVAL), (error.Rule, error.Errno));
        Assert.Contains($"bio {bio.Index}", error.Subject, StringComparison.Ordinal);
    }

    // Other tests of the process run beside these, with faulty drivers of their own.
    private void Note(DriverFault fault)
    {
        if (fault.Exception is not DmaBufIoException { Rule: "N8" })
            return;
        lock (_reported)
            _reported.Add(fault);
    }

    private sealed class Owner(BioPool bios) : IBioOwner
    {
        internal List<Errno> Ended { get; } = [];

        internal Action? OnEnded { get; set; }

        public void BioEnded(BioHandle bio)
        {
            Ended.Add(bios[bio].Status);
            bios.Release(bio);
            OnEnded?.Invoke();
        }
    }

    private sealed class Again(BioPool bios) : IBioOwner
    {
        internal int Times { get; private set; }

        public void BioEnded(BioHandle bio)
        {
            Times++;
            bios.Rearm(bio);
        }
    }
}
