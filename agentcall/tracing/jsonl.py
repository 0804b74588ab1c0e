"""Write spans as JSON lines to a file, without a collector.

A line is written when its span ends, so that children come before their parents. Its fields are
`name`, `kind`, `trace_id`, `span_id` and `parent_id` (hex, as in OpenTelemetry; null for a root
span), `start` (UTC, ISO 8601), `seconds`, `error` (null if none) and `attributes`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter

from agentcall.errors import UsageError
from agentcall.messages import JSON, encode_json
from agentcall.storage.private_files import open_private
from agentcall.tracing.spans import Attributes, AttributeValue, SpanStart

_current_span: ContextVar[_JSONSpan | None] = ContextVar("current_span", default=None)


class JSONLinesExporter:
    """A `Tracer` that appends spans to a file, which only its owner can read.

    Raises UsageError if the file cannot be opened. A later error, such as a full disk, is stored in
    `failure`, so that it does not end a run.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            self._file = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise UsageError(f"the trace {path} cannot be written: {error.strerror}") from error
        self._path = path
        self._lock = threading.Lock()
        self._is_open = True
        self.failure = ""

    @contextmanager
    def start_span(self, start: SpanStart) -> Generator[_JSONSpan, None, None]:
        """Start a child of the task's current span."""
        span = _JSONSpan(start, _current_span.get())
        token = _current_span.set(span)
        try:
            yield span
        finally:
            _current_span.reset(token)
            self._write(span.to_json())

    def close(self) -> None:
        """Close the file; spans that end later are not written."""
        with self._lock:
            if self._is_open:
                os.close(self._file)
            self._is_open = False

    def _write(self, span: JSON) -> None:
        data = encode_json(span) + b"\n"
        with self._lock:
            if not self._is_open:
                return
            try:
                while data:
                    data = data[os.write(self._file, data) :]
            except OSError as error:
                self.failure = f"the trace {self._path} is incomplete: {error.strerror}"


class _JSONSpan:
    """A span that has not ended yet."""

    def __init__(self, start: SpanStart, parent: _JSONSpan | None) -> None:
        self._name, self._kind = start.name, start.kind
        self._attributes: dict[str, AttributeValue] = {**start.attributes}
        self.trace_id: str = os.urandom(16).hex() if parent is None else parent.trace_id
        self.span_id = os.urandom(8).hex()
        self._parent_id = None if parent is None else parent.span_id
        self._start = datetime.now(timezone.utc)
        self._started = perf_counter()
        self._error: str | None = None

    def rename(self, name: str) -> None:
        self._name = name

    def set_attributes(self, attributes: Attributes) -> None:
        self._attributes.update(attributes)

    def record_error(self, kind: str, message: str) -> None:
        self._attributes["error.type"] = kind
        self._error = message or kind

    def to_json(self) -> JSON:
        return {
            "name": self._name,
            "kind": self._kind,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "parent_id": self._parent_id,
            "start": self._start.isoformat(),
            "seconds": round(perf_counter() - self._started, 6),
            "error": self._error,
            "attributes": self._attributes,
        }
