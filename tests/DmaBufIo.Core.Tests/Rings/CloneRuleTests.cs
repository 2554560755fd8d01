using System.Reflection;
using DmaBufIo.Errors;
using DmaBufIo.Rings;
using DmaBufIo.Tokens;

namespace DmaBufIo.Tests.Rings;

public sealed class CloneRuleTests
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    [Fact]
    public void R5_no_public_member_of_the_rings_takes_another_ring_or_a_token()
    {
        foreach (Type type in typeof(Ring).Assembly.GetExportedTypes().Where(static t => t.Namespace == "DmaBufIo.Rings"))
        {
            IEnumerable<MethodBase> methods = type.GetMethods(Declared).Cast<MethodBase>().Concat(type.GetConstructors(Declared));
            foreach (MethodBase method in methods)
            {
                Assert.DoesNotContain(
                    method.GetParameters(),
                    static p => p.ParameterType == typeof(Ring)
                        || p.ParameterType == typeof(DmaBufToken)
                        || p.ParameterType == typeof(TokenDriver));
            }

            Assert.False(type.IsAssignableTo(typeof(ICloneable)), $"{type} can be cloned");
        }

        Assert.True(typeof(Ring).IsSealed);
    }

    [Fact]
    public void R5_the_only_ways_to_fill_a_slot_name_buffer_and_file_anew()
    {
        string[] takers = [.. typeof(Ring).GetMethods(Declared)
            .Where(static m => m.GetParameters().Any(static p => p.ParameterType == typeof(BufferRegistration)))
            .Select(static m => m.Name)];
        Assert.Equal(["RegisterBuffer"], takers);
        Assert.DoesNotContain(
            typeof(BufferRegistration).GetProperties(),
            static p => p.PropertyType is { IsEnum: false, Namespace: "DmaBufIo.Tokens" or "DmaBufIo.Rings" });
    }

    [Fact]
    public void R5_a_second_ring_gets_a_registration_of_its_own_and_the_first_ones_end_does_not_touch_it()
    {
        using var stage = new Stage();
        using var second = new Ring(new RingOptions { Name = "ring1", Entries = 4 });
        Assert.Null(second.TokenAt(0));
        Assert.True(second.TryReadFixed(stage.File, 0, 0, 512, 0, 1));
        second.Submit(TestContext.Current.CancellationToken);
        var completions = new RingCompletion[1];
        Assert.Equal(1, second.Reap(completions, 1, TestContext.Current.CancellationToken));
        Assert.Equal(Errno.EFAULT, completions[0].Status);
        second.RegisterBuffer(0, new BufferRegistration { Buffer = stage.Exporter.Buffer, File = stage.File });
        Assert.NotSame(stage.Token, second.TokenAt(0));
        DmaBufToken first = stage.Ring.RemoveBuffer(0).Token!;
        Assert.Equal(Errno.Ok, first.WaitReleased(TestContext.Current.CancellationToken));
        Assert.True(second.TryReadFixed(stage.File, 0, 0, 512, 0, 1));
        second.Submit(TestContext.Current.CancellationToken);
        Assert.Equal(1, second.Reap(completions, 1, TestContext.Current.CancellationToken));
        Assert.Equal(new RingCompletion(1, Errno.Ok, 512), completions[0]);
    }
}
