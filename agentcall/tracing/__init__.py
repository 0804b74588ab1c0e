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

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agentcall.errors import MissingExtra, UsageError
from agentcall.runtime.instrumentation import InstrumentationHandle, add_instrumentation
from agentcall.tracing.jsonl import JSONLinesExporter
from agentcall.tracing.spans import SpanBuilder

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The variable that turns content on in OpenTelemetry's own instrumentations."""


def instrument(
    *,
    content: bool | None = None,
    redact: Callable[[str], str] = str,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> InstrumentationHandle:
    """Trace every run of this process that starts from now on with OpenTelemetry.

    content: whether spans contain messages, arguments and results; None reads the environment
        (OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true).
    redact: applied to each text before it is added to a span; API keys of models are removed in any
        case.
    tracer_provider, meter_provider: receive the spans and metrics; by default the providers of the
        process.

    Returns a handle that ends it with `.remove()` or a `with`. Raises MissingExtra without the
    extra `otel`.
    """
    try:
        from agentcall.tracing.otel import OpenTelemetryTracer
    except ModuleNotFoundError as error:
        missing = MissingExtra.for_feature("instrument", "otel", error)
        raise MissingExtra(
            f"{missing}\nIt also needs an SDK and an exporter, such as opentelemetry-sdk and "
            "opentelemetry-exporter-otlp. write_trace writes spans to a file, and needs neither."
        ) from None
    if content is None:
        variable = os.environ.get(CONTENT_VARIABLE, "").lower()
        content = variable in ("1", "true", "span_only", "span_and_event")
    tracer = OpenTelemetryTracer(tracer_provider, meter_provider)
    return add_instrumentation(SpanBuilder(tracer, content=content, redact=redact))


class Instrumentor:
    """Turns tracing on for `opentelemetry-instrument`, which finds it by its entry point."""

    def __init__(self) -> None:
        self._handle: InstrumentationHandle | None = None

    def instrument(self, **_options: object) -> None:
        """Call `instrument` with the defaults; does nothing if tracing is on."""
        self._handle = self._handle or instrument()

    def uninstrument(self, **_options: object) -> None:
        """Turn tracing off."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = None


@contextmanager
def write_trace(
    path: str | Path, *, content: bool = False, redact: Callable[[str], str] = str
) -> Generator[None, None, None]:
    """Write every run of this process that starts within the `with` to a file.

    path: the file, to which a line per span is appended; see `agentcall.tracing.jsonl`.
    content, redact: see `instrument`.

    Raises UsageError if the file cannot be written.
    """
    exporter = JSONLinesExporter(path)
    try:
        with add_instrumentation(SpanBuilder(exporter, content=content, redact=redact)):
            yield
    finally:
        exporter.close()
    if exporter.failure:
        raise UsageError(exporter.failure)


__all__ = [
    "instrument",
    "write_trace",
]
