"""Trace runs as OpenTelemetry spans and metrics, or as JSON lines in a file.

    from agentcall.tracing import instrument, write_trace

    instrument()                        to the OpenTelemetry SDK of this process (extra `otel`)
    with write_trace("trace.jsonl"):    to a file, without a collector
        agent.run_sync("...")

The spans are `invoke_agent NAME` for a run, `chat MODEL` for a request and `execute_tool NAME` for
a tool call, each a child of the span in which it happens. They contain messages, arguments and
results only with `content=True`, and never the API keys of the models.
"""

from __future__ import annotations

from agentcall.tracing.setup import instrument, write_trace

__all__ = ["instrument", "write_trace"]
