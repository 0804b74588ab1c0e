"""How fast a model server answers streams and agents: a bounded measurement, and its figures."""

from agentcall.bench.measurement import Report, Scope, Server, Target, measure

__all__ = ["Report", "Scope", "Server", "Target", "measure"]
