"""Runs seen from outside: as OpenTelemetry spans and metrics, or as lines of a file.

    from agentcall.tracing import instrument, write_trace

    instrument()                        to the OpenTelemetry SDK of this process (extra `otel`)
    with write_trace("trace.jsonl"):    to a file, without any collector
        agent.run_sync("...")

Spans are `invoke_agent NAME` for a run, `chat MODEL` for a request and `execute_tool NAME` for a
call, each inside of what it happened in. Messages, arguments and results are left out unless
`content=True` asks for them; the keys of the models' servers are never in.
"""

from __future__ import annotations

from agentcall.tracing.setup import instrument, write_trace

__all__ = ["instrument", "write_trace"]
