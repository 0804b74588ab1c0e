"""How fast a model server answers streams and agents: a bounded measurement, and its figures."""

from agentcall.bench.measurement import BenchReport, BenchScope, BenchServer, BenchTarget, measure

__all__ = ["BenchReport", "BenchScope", "BenchServer", "BenchTarget", "measure"]
