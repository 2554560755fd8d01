using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Running;

// In this process: a program generated for each benchmark would have to be restored and built.
string[] arguments = args.Contains("--inProcess") ? args : [.. args, "--inProcess"];
BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(arguments, DefaultConfig.Instance);
