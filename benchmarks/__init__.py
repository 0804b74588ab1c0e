"""Benchmarks of agentcall, each in a module or folder of its own."""
