"""Spans and metrics through OpenTelemetry's API, for any SDK that the process has set up.

The metrics are those of the GenAI conventions: `gen_ai.client.operation.duration` of requests,
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

from agentcall.tracing.spans import Attributes, AttributeValue, SpanStart

_SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
_TOKEN_BUCKETS = tuple(4**power for power in range(14))
_SECOND_BUCKETS = tuple(0.01 * 2**power for power in range(14))
"""The boundaries of histograms that the conventions recommend."""

_METRICS = {
    "chat": "gen_ai.client.operation.duration",
    "execute_tool": "gen_ai.execute_tool.duration",
    "invoke_agent": "gen_ai.invoke_agent.duration",
}
_METRIC_ATTRIBUTES = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.agent.name",
    "gen_ai.tool.name",
    "gen_ai.request.model",
    "server.address",
    "server.port",
    "error.type",
)
_TOKEN_TYPES = {"input": "gen_ai.usage.input_tokens", "output": "gen_ai.usage.output_tokens"}


class OpenTelemetryTracer:
    """A `Tracer` for OpenTelemetry; the default providers are those of the process."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        our_version = version("agentcall")
        self._tracer = trace.get_tracer("agentcall", our_version, tracer_provider, _SCHEMA_URL)
        meter = metrics.get_meter("agentcall", our_version, meter_provider, _SCHEMA_URL)
        self._durations = {
            operation: meter.create_histogram(
                name, unit="s", explicit_bucket_boundaries_advisory=_SECOND_BUCKETS
            )
            for operation, name in _METRICS.items()
        }
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )

    @contextmanager
    def start_span(self, start: SpanStart) -> Generator[_OpenTelemetrySpan, None, None]:
        """Start a span, which is the current span until it ends."""
        kind = SpanKind.CLIENT if start.kind == "client" else SpanKind.INTERNAL
        started = perf_counter()
        with self._tracer.start_as_current_span(
            start.name,
            kind=kind,
            attributes=start.attributes,
            record_exception=False,  # its message is in the status, without secrets
            set_status_on_exception=False,
        ) as span:
            wrapper = _OpenTelemetrySpan(span, {**start.attributes})
            try:
                yield wrapper
            finally:
                self._record_metrics(wrapper.attributes, perf_counter() - started)

    def _record_metrics(self, attributes: Mapping[str, AttributeValue], seconds: float) -> None:
        labels = {name: attributes[name] for name in _METRIC_ATTRIBUTES if name in attributes}
        operation = str(attributes["gen_ai.operation.name"])
        self._durations[operation].record(seconds, labels)
        if operation != "chat":
            return
        for kind, name in _TOKEN_TYPES.items():
            count = attributes.get(name)
            if isinstance(count, int):
                self._tokens.record(count, {**labels, "gen_ai.token.type": kind})


class _OpenTelemetrySpan:
    """A span that has not ended yet, and all of its attributes."""

    def __init__(self, span: trace.Span, attributes: dict[str, AttributeValue]) -> None:
        self._span = span
        self.attributes = attributes

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def set_attributes(self, attributes: Attributes) -> None:
        self.attributes.update(attributes)
        self._span.set_attributes(attributes)

    def record_error(self, kind: str, message: str) -> None:
        self.set_attributes({"error.type": kind})
        self._span.set_status(Status(StatusCode.ERROR, message or kind))
