"""What an endpoint has done, for Prometheus (names after its guide: base units, `_total`)."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agentcall.places import ConcurrencyLimiter
from agentcall.result import RunResult

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class EndpointMetrics:
    """Counts of one endpoint, in a registry of its own."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._registry = CollectorRegistry()
        own = self._registry
        self._requests = Counter(
            "agentcall_requests", "Requests answered, by status.", ["status"], registry=own
        )
        self._runs = Counter("agentcall_runs", "Runs, by how they ended.", ["stop"], registry=own)
        self._tokens = Counter("agentcall_tokens", "Tokens used.", ["direction"], registry=own)
        self._calls = Counter("agentcall_tool_calls", "Tool calls carried out.", registry=own)
        self._seconds = Histogram("agentcall_run_seconds", "How long runs took.", registry=own)
        running = Gauge("agentcall_running", "Runs that are under way.", registry=own)
        running.set_function(lambda: limiter.running)
        waiting = Gauge("agentcall_waiting", "Runs that wait for a place.", registry=own)
        waiting.set_function(lambda: limiter.waiting)

    def count_response(self, status: int) -> None:
        """Counts an answer to a request."""
        self._requests.labels(str(status)).inc()

    def count_run(self, result: RunResult[Any], seconds: float) -> None:  # Any: of any agent
        """Counts a run."""
        self._runs.labels(result.stop_reason).inc()
        self._tokens.labels("input").inc(result.usage.input_tokens)
        self._tokens.labels("output").inc(result.usage.output_tokens)
        self._calls.inc(result.usage.tool_calls)
        self._seconds.observe(seconds)

    def render(self) -> bytes:
        """All counts in Prometheus' text format."""
        return generate_latest(self._registry)
