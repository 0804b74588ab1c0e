"""Spans and metrics for OpenTelemetry, by way of its API: whatever SDK the process has set up.

Metrics are those of the GenAI conventions: `gen_ai.client.operation.duration` of requests,
`gen_ai.execute_tool.duration` and `gen_ai.invoke_agent.duration`, in seconds, and
`gen_ai.client.token.usage` by type. Source: open-telemetry/semantic-conventions 1.41, and
semantic-conventions-genai 0.1 for tools and agents.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from time import perf_counter

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

from agentcall.tracing.span import Attributes, Begun, Value

_SCHEMA = "https://opentelemetry.io/schemas/1.41.0"
_TOKENS = tuple(4**power for power in range(14))
_SECONDS = tuple(0.01 * 2**power for power in range(14))
"""The boundaries of histograms that the conventions advise."""

_METRICS = {
    "chat": "gen_ai.client.operation.duration",
    "execute_tool": "gen_ai.execute_tool.duration",
    "invoke_agent": "gen_ai.invoke_agent.duration",
}
_OF_METRICS = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.agent.name",
    "gen_ai.tool.name",
    "gen_ai.request.model",
    "server.address",
    "server.port",
    "error.type",
)
_TYPES = {"input": "gen_ai.usage.input_tokens", "output": "gen_ai.usage.output_tokens"}


class OpenTelemetry:
    """Takes spans for OpenTelemetry; without providers, those of the process."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        ours = version("agentcall")
        self._tracer = trace.get_tracer("agentcall", ours, tracer_provider, _SCHEMA)
        meter = metrics.get_meter("agentcall", ours, meter_provider, _SCHEMA)
        self._durations = {
            operation: meter.create_histogram(
                name, unit="s", explicit_bucket_boundaries_advisory=_SECONDS
            )
            for operation, name in _METRICS.items()
        }
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    @contextmanager
    def span(self, begun: Begun) -> Generator[_Open, None, None]:
        """A span, current while it is open."""
        kind = SpanKind.CLIENT if begun.kind == "client" else SpanKind.INTERNAL
        started = perf_counter()
        with self._tracer.start_as_current_span(
            begun.name,
            kind=kind,
            attributes=begun.attributes,
            record_exception=False,  # its words are in the status, without secrets
            set_status_on_exception=False,
        ) as span:
            opened = _Open(span, {**begun.attributes})
            try:
                yield opened
            finally:
                self._measure(opened.known, perf_counter() - started)

    def _measure(self, known: Mapping[str, Value], seconds: float) -> None:
        said = {name: known[name] for name in _OF_METRICS if name in known}
        operation = str(known["gen_ai.operation.name"])
        self._durations[operation].record(seconds, said)
        if operation != "chat":
            return
        for kind, name in _TYPES.items():
            count = known.get(name)
            if isinstance(count, int):
                self._tokens.record(count, {**said, "gen_ai.token.type": kind})


class _Open:
    """An open span, and all that is known of it."""

    def __init__(self, span: trace.Span, known: dict[str, Value]) -> None:
        self._span = span
        self.known = known

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Attributes) -> None:
        self.known.update(attributes)
        self._span.set_attributes(attributes)

    def fail(self, kind: str, words: str) -> None:
        self.set({"error.type": kind})
        self._span.set_status(Status(StatusCode.ERROR, words or kind))
