"""How tracing is turned on."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agentcall.errors import MissingExtra, UsageError
from agentcall.runtime.hooks import InstrumentationHandle, add_instrumentation
from agentcall.tracing.jsonl import JSONLinesExporter
from agentcall.tracing.spans import SpanBuilder

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

CONTENT_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The variable of OpenTelemetry's own instrumentations that asks for content."""


def instrument(
    *,
    content: bool | None = None,
    redact: Callable[[str], str] = str,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> InstrumentationHandle:
    """Has every run of this process that begins from now on seen by OpenTelemetry.

    content: whether messages, arguments and results are in the spans; None asks the environment
        (OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true).
    redact: what a text becomes before it is in a span; keys of models are out in any case.
    tracer_provider, meter_provider: where spans and metrics go; without them, to those that the
        process has set up.

    Gives what ends it: `.stop()`, or a `with`. Raises MissingExtra without the extra `otel`.
    """
    try:
        from agentcall.tracing.otel import OpenTelemetryTracer
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "OpenTelemetry is not installed: pip install 'agentcall[otel]', and an SDK with an "
            "exporter, such as opentelemetry-exporter-otlp; write_trace needs neither"
        ) from error
    wanted = is_content_enabled() if content is None else content
    tracer = OpenTelemetryTracer(tracer_provider, meter_provider)
    return add_instrumentation(SpanBuilder(tracer, content=wanted, redact=redact))


class Instrumentor:
    """What `opentelemetry-instrument` finds by an entry point, and turns tracing on with."""

    def __init__(self) -> None:
        self._watch: InstrumentationHandle | None = None

    def instrument(self, **_options: object) -> None:
        """As the function `instrument`, as the environment says."""
        self._watch = self._watch or instrument()

    def uninstrument(self, **_options: object) -> None:
        """Ends it."""
        if self._watch is not None:
            self._watch.remove()
        self._watch = None


@contextmanager
def write_trace(
    path: str | Path, *, content: bool = False, redact: Callable[[str], str] = str
) -> Generator[None, None, None]:
    """Has every run of this process that begins within the `with` written to a file.

    path: the file, a span a line as `agentcall.tracing.jsonl` says; it is added to.
    content, redact: as of `instrument`.

    Raises UsageError if the file cannot be written.
    """
    lines = JSONLinesExporter(path)
    try:
        with add_instrumentation(SpanBuilder(lines, content=content, redact=redact)):
            yield
    finally:
        lines.close()
    if lines.failure:
        raise UsageError(lines.failure)


def is_content_enabled() -> bool:
    """Whether the environment asks for content."""
    return os.environ.get(CONTENT_VARIABLE, "").lower() in (
        "1",
        "true",
        "span_only",
        "span_and_event",
    )
