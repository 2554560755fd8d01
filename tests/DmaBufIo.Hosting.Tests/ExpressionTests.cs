using DmaBufIo.Errors;
using DmaBufIo.Hosting.Topology;
using DmaBufIo.Plugins;

namespace DmaBufIo.Tests;

public sealed class ExpressionTests
{
    private static readonly ExpressionParser s_parser = new(
        ["nvme", "raid0", "raid1", "extent", "null", "vfio", "vfio-user"],
        ["udmabuf", "moving", "gpu"]);

    [Theory]
    [InlineData("/tmp/a.bin")]
    [InlineData("a,b (1).img")]
    [InlineData("\"quoted\"")]
    [InlineData("unknown:FILE")]
    [InlineData("raid")]
    [InlineData("raid7(A,B)")]
    [InlineData("RAID1(A,B)")]
    [InlineData("udmabuf")]
    [InlineData("nvme")]
    [InlineData(" nvme:a")]
    [InlineData("-")]
    public void A_text_that_begins_with_no_known_word_is_a_path_to_the_letter(string text)
    {
        DeviceExpression device = s_parser.ParseDevice(text);

        Assert.Equal("nvme", device.Word);
        Assert.Equal(text, device.Text);
        Assert.Equal(text, device.Source);
        Assert.Empty(device.Options);
        Assert.Empty(device.Members);
    }

    [Theory]
    [InlineData("nvme:/tmp/a.bin", "nvme:/tmp/a.bin")]
    [InlineData("nvme:/tmp/a=b", "nvme:\"/tmp/a=b\"")]
    [InlineData("nvme:a,lba=4096,MDTS=64K", "nvme:a,lba=4096,mdts=64K")]
    [InlineData("nvme:a,readonly", "nvme:a,readonly=\"\"")]
    [InlineData("nvme:a,lba=", "nvme:a,lba=\"\"")]
    [InlineData("nvme:\"a,b(1)\",lba=512", "nvme:\"a,b(1)\",lba=512")]
    [InlineData("nvme:\"say \"\"a\"\"\"", "nvme:say \"a\"")]
    [InlineData("nvme:\"\"", "nvme:\"\"")]
    [InlineData("nvme:a\"b", "nvme:a\"b")]
    [InlineData("nvme:a@b", "nvme:a@b")]
    [InlineData("null:16G", "null:16G")]
    [InlineData("vfio:0000:00:04.0", "vfio:0000:00:04.0")]
    [InlineData("vfio-user:/run/s.sock", "vfio-user:/run/s.sock")]
    [InlineData("raid1(A,B)", "raid1(nvme:A,nvme:B)")]
    [InlineData("raid0:64K(A,B,C)", "raid0:64K(nvme:A,nvme:B,nvme:C)")]
    [InlineData("raid0:64K,spread=on(A,B)", "raid0:64K,spread=on(nvme:A,nvme:B)")]
    [InlineData("raid1( A , nvme:B )", "raid1(nvme:A,nvme:B)")]
    [InlineData("raid1(nvme:a,lba=512,nvme:b,lba=4096)", "raid1(nvme:a,lba=512,nvme:b,lba=4096)")]
    [InlineData("raid1(a,lba=512,b)", "raid1(nvme:a,lba=512,nvme:b)")]
    [InlineData("raid1(\"a,b\",\"c:d\")", "raid1(nvme:\"a,b\",nvme:c:d)")]
    [InlineData("raid1(./c:d,nvme)", "raid1(nvme:./c:d,nvme:nvme)")]
    [InlineData("raid1(raid0:64K(A,B),raid0:64K(C,D))", "raid1(raid0:64K(nvme:A,nvme:B),raid0:64K(nvme:C,nvme:D))")]
    [InlineData("extent:big@(A)", "extent:big(nvme:A)")]
    [InlineData("extent:\"a@b\"@(raid1(A,B))", "extent:a@b(raid1(nvme:A,nvme:B))")]
    public void An_expression_reads_as_its_canonical_text_and_that_reads_as_itself(string text, string canonical)
    {
        DeviceExpression device = s_parser.ParseDevice(text);

        Assert.Equal(canonical, ExpressionText.Format(device));
        DeviceExpression again = s_parser.ParseDevice(canonical);
        Assert.Equal(canonical, ExpressionText.Format(again));
        AssertSame(device, again);
    }

    [Theory]
    [InlineData("raid1(A,B", "is not closed", 9)]
    [InlineData("raid1(raid0(A,B)", "is not closed", 16)]
    [InlineData("raid1(", "is not closed", 6)]
    [InlineData("raid1(A,", "is not closed", 8)]
    [InlineData("raid1()", "a member is missing", 6)]
    [InlineData("raid1(A,,B)", "a member is missing", 8)]
    [InlineData("raid1(A,)", "a member is missing", 8)]
    [InlineData("raid1(A,B)x", "has ended before this", 10)]
    [InlineData("raid1(A,B),lba=1", "has ended before this", 10)]
    [InlineData("raid1(A,B)(C)", "has ended before this", 10)]
    [InlineData("nvme:a)", "')' closes nothing", 6)]
    [InlineData("raid1(A))", "')' closes nothing", 8)]
    [InlineData("raid1(raid7(A,B),C)", "'raid7' is not a known device", 6)]
    [InlineData("raid1(A,nvm:B)", "'nvm' is not a known device", 8)]
    [InlineData("raid1((A))", "a path cannot have members", 6)]
    [InlineData("raid1(Foo(A))", "a path cannot have members", 9)]
    [InlineData("raid1(A(B))", "a path cannot have members", 7)]
    [InlineData("nvme:", "nothing stands after 'nvme:'", 5)]
    [InlineData("nvme:,lba=512", "nothing stands after 'nvme:'", 5)]
    [InlineData("raid0:(A,B)", "nothing stands after 'raid0:'", 6)]
    [InlineData("raid1(nvme:,B)", "nothing stands after 'nvme:'", 11)]
    [InlineData("nvme:a,", "the name of an option is missing", 7)]
    [InlineData("nvme:a,=5", "the name of an option is missing", 7)]
    [InlineData("nvme:a,,lba=5", "the name of an option is missing", 7)]
    [InlineData("nvme:a,b.img", "'.' does not belong in the name of an option", 8)]
    [InlineData("nvme:a,lba=512,lba=512", "option 'lba' is given twice", 15)]
    [InlineData("nvme:a,lba=512,LBA=512", "option 'lba' is given twice", 15)]
    [InlineData("raid1(A,nvme:b,lba=1,lba=2)", "option 'lba' is given twice", 21)]
    [InlineData("nvme:\"a,b", "the quote is not closed", 5)]
    [InlineData("raid1(A,\"B)", "the quote is not closed", 8)]
    [InlineData("nvme:\"a\"\"", "the quote is not closed", 5)]
    [InlineData("nvme:a,lba=\"512", "the quote is not closed", 11)]
    [InlineData("nvme:\"a\"b", "goes on after its closing quote", 8)]
    [InlineData("raid1(A,\"B\" C)", "goes on after its closing quote", 12)]
    [InlineData("raid1(\"A\"(B))", "a path cannot have members", 9)]
    [InlineData("", "a device is missing", 0)]
    public void A_broken_expression_is_refused_and_the_caret_stands_below_the_character(string text, string problem, int position) =>
        AssertBroken(() => s_parser.ParseDevice(text), text, problem, position);

    [Fact]
    public void An_unknown_word_in_parentheses_is_answered_with_the_known_ones()
    {
        var error = Assert.Throws<DmaBufIoException>(() => s_parser.ParseDevice("raid1(A,raid7(B))"));

        Assert.Contains("Known devices: extent, null, nvme, raid0, raid1, vfio, vfio-user", error.Remedy);
    }

    [Fact]
    public void Nesting_ends_before_the_stack_does()
    {
        string inside = string.Concat(Enumerable.Repeat("raid1(", 64)) + "A" + new string(')', 64);
        Assert.Equal("raid1", s_parser.ParseDevice(inside).Word);

        string deep = string.Concat(Enumerable.Repeat("raid1(", 100_000)) + "A";
        AssertBroken(() => s_parser.ParseDevice(deep), deep, "nested more than 64 deep", (64 * 6) + 5);
    }

    [Fact]
    public void Positions_of_options_and_members_point_into_the_whole_expression()
    {
        DeviceExpression device = s_parser.ParseDevice("raid1(A,nvme:b,lba=5x)");

        Assert.Equal([6, 8], device.Members.Select(static m => m.Position));
        Assert.Equal(new DeviceOption("5x", 15, 19), device.Members[1].Options["lba"]);
        AssertBroken(() => device.Members[1].Size("lba", 512), device.Source, "'5x' is not a size", 19);
    }

    [Theory]
    [InlineData("udmabuf", null, "udmabuf")]
    [InlineData("moving", null, "moving")]
    [InlineData("gpu:vram=64M", null, "gpu:vram=64M")]
    [InlineData("gpu:vram=64M,bar=\"a,b\"", null, "gpu:vram=64M,bar=\"a,b\"")]
    [InlineData("gpu:card0", "card0", "gpu:card0")]
    [InlineData("gpu:card0,vram=64M", "card0", "gpu:card0,vram=64M")]
    [InlineData("gpu:\"a=b\"", "a=b", "gpu:\"a=b\"")]
    public void An_exporter_has_a_text_or_goes_straight_to_its_options(string text, string? expected, string canonical)
    {
        DeviceExpression exporter = s_parser.ParseExporter(text);

        Assert.Equal(expected, exporter.Text);
        Assert.Equal(canonical, ExpressionText.Format(exporter));
        AssertSame(exporter, s_parser.ParseExporter(canonical));
    }

    [Theory]
    [InlineData("", "an exporter is missing", 0)]
    [InlineData("nvme:a", "'nvme' is not a known exporter", 0)]
    [InlineData("dmabuf", "'dmabuf' is not a known exporter", 0)]
    [InlineData("udmabuf2", "'udmabuf2' is not a known exporter", 0)]
    [InlineData("udmabuf:", "nothing stands after 'udmabuf:'", 8)]
    [InlineData("gpu:,vram=1", "nothing stands after 'gpu:'", 4)]
    [InlineData("gpu(A)", "has ended before this", 3)]
    [InlineData("gpu:card0(A)", "has ended before this", 9)]
    [InlineData("gpu,vram=64M", "has ended before this", 3)]
    [InlineData("gpu:vram=64M,vram=1", "option 'vram' is given twice", 13)]
    public void A_broken_exporter_is_refused_and_the_caret_stands_below_the_character(string text, string problem, int position) =>
        AssertBroken(() => s_parser.ParseExporter(text), text, problem, position);

    [Fact]
    public void Any_tree_survives_being_written_and_read()
    {
        var random = new Random(20261);
        for (int i = 0; i < 2000; i++)
        {
            DeviceExpression tree = RandomTree(random, depth: 0);
            string text = ExpressionText.Format(tree);
            AssertSame(tree, s_parser.ParseDevice(text));
        }
    }

    private static DeviceExpression RandomTree(Random random, int depth)
    {
        bool leaf = depth == 3 || random.Next(3) == 0;
        var options = Enumerable.Range(0, random.Next(3)).ToDictionary(
            static n => $"o{n}",
            _ => new DeviceOption(RandomText(random), 0, 0));
        DeviceExpression[] members = leaf ? [] : [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => RandomTree(random, depth + 1))];
        string? text = leaf || options.Count != 0 || random.Next(2) == 0 ? RandomText(random) : null;
        return new DeviceExpression(leaf ? "nvme" : "raid1", text, options, members, "", 0);
    }

    private static string RandomText(Random random) =>
        new([.. Enumerable.Range(0, random.Next(6)).Select(_ => "ab,()\"@= :/é"[random.Next(12)])]);

    private static void AssertSame(DeviceExpression expected, DeviceExpression actual)
    {
        Assert.Equal(expected.Word, actual.Word);
        Assert.Equal(expected.Text, actual.Text);
        Assert.Equal(
            expected.Options.Select(static o => (o.Key, o.Value.Value)),
            actual.Options.Select(static o => (o.Key, o.Value.Value)));
        Assert.Equal(expected.Members.Count, actual.Members.Count);
        foreach ((DeviceExpression e, DeviceExpression a) in expected.Members.Zip(actual.Members))
            AssertSame(e, a);
    }

    private static void AssertBroken(Action parse, string source, string problem, int position)
    {
        var error = Assert.Throws<DmaBufIoException>(parse);
        Assert.Equal(Errno.EINVAL, error.Errno);
        Assert.Contains(problem, error.Problem);
        string[] lines = error.Problem.Split('\n');
        Assert.Equal("  " + source, lines[1]);
        Assert.Equal(new string(' ', 2 + position) + "^", lines[2]);
        Assert.NotEmpty(error.Remedy);
    }
}
