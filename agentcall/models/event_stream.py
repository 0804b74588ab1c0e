r"""Splits a stream of bytes into the data of its events.

Format: server-sent events (WHATWG HTML, section 9.2). Lines end with LF, CR LF or CR. Comments,
other fields and events without data are skipped. Also accepted, as servers send them:

- events that only a line end separates, not an empty line: a line of data begins an event if the
  lines before it are a whole JSON value;
- JSON objects in lines of their own, without `data:` (NDJSON);
- errors as `event: error`, or as a field `error: {...}` (llama.cpp): they become `{"error": ...}`.

The text of an event that is named as a keep-alive is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import orjson

from agentcall.messages import JSON
from agentcall.models.completion_body import decode_json

DONE = "[DONE]"
_DONE_FORMS = ("[DONE]", "[done]", "DONE")
_BOM = b"\xef\xbb\xbf"
_DONE = DONE.encode()
_KEEP_ALIVE = re.compile(r"ping|pong|keep[-_ ]?alive|heart[-_ ]?beat", re.IGNORECASE)


class SSEDecoder:
    """Yields the data of each event, from pieces of any size."""

    def __init__(self) -> None:
        self._incomplete_line: list[bytes] = []
        self._data_lines: list[bytes] = []
        self._name = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of each event that these bytes complete."""
        # A CR at the end may be the first half of a CR LF: the line is kept as incomplete.
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(len(data) - 1, 0))) + 1
        if not end:
            self._incomplete_line.append(data)
            return []
        lines = b"".join((*self._incomplete_line, data[:end])).splitlines()
        self._incomplete_line = [data[end:]]
        return self._consume_lines(lines)

    def close(self) -> list[bytes]:
        """Return the data of the events that the end of the stream completes."""
        lines = b"".join(self._incomplete_line).splitlines()
        self._incomplete_line = []
        return self._consume_lines([*lines, b""])

    def _consume_lines(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for line in lines:
            if not line:
                if self._name or len(self._data_lines) > 1:
                    self._end_event(events)
                elif self._data_lines and (data := self._data_lines.pop()):
                    events.append(data)
                continue
            text = line.removeprefix(_BOM)
            if text.startswith(b"data:"):  # the space after the colon is optional
                value = text[6:] if text.startswith(b"data: ") else text[5:]
                if self._data_lines:
                    self._separate_events(value, events)
                self._data_lines.append(value)
                if value == _DONE:  # nothing may follow it, not even an empty line
                    self._end_event(events)
            else:
                self._consume_other_line(text, events)
        return events

    def _consume_other_line(self, line: bytes, events: list[bytes]) -> None:
        name, _, value = line.partition(b":")
        if name == b"event":
            self._name = value.strip()
        elif name == b"error" and value.strip():
            self._end_event(events)
            self._name = b"error"
            self._data_lines.append(value.strip())
        elif line.lstrip().startswith(b"{") and not self._data_lines:
            self._data_lines.append(line)
            self._end_event(events)

    def _separate_events(self, value: bytes, events: list[bytes]) -> None:
        """End the event before a line of data if it is whole without that line."""
        before = self._data_lines[-1].rstrip()
        if value.strip() == _DONE or (
            before.endswith((b"}", b"]", b"null")) and _is_json(b"\n".join(self._data_lines))
        ):
            self._end_event(events)

    def _end_event(self, events: list[bytes]) -> None:
        name, self._name = self._name, b""
        event = b"\n".join(self._data_lines)
        self._data_lines.clear()
        if name and is_keep_alive(name.decode("latin-1")):
            return
        if event and name == b"error":
            event = _wrap_error(event)
        if event:
            events.append(event)


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except ValueError:
        return False
    return True


def _wrap_error(event: bytes) -> bytes:
    """Return the data of an error event as `{"error": ...}`."""
    try:
        value: JSON = orjson.loads(event)
    except ValueError:
        value = event.decode("utf-8", "replace")
    has_error = isinstance(value, Mapping) and ("error" in value or value.get("object") == "error")
    return event if has_error else orjson.dumps({"error": value})


def decode_event(data: bytes) -> JSON:
    """Return the JSON of an event: DONE for its end, None for a keep-alive. Raises ValueError."""
    text = data.decode("utf-8", "replace").strip()
    if text.strip('"') in _DONE_FORMS:
        return DONE
    try:
        return decode_json(data)
    except ValueError:
        if text.startswith("data:"):  # a proxy has wrapped the event twice
            return decode_event(text.removeprefix("data:").encode())
        if is_keep_alive(text):
            return None
        raise


def is_keep_alive(text: str) -> bool:
    """Whether the text of an event only keeps the connection open."""
    return _KEEP_ALIVE.fullmatch(text.strip(" :.[]<>")) is not None


def decode_answer(data: bytes) -> JSON:
    """Return the JSON of a body; if the body is a stream, the list of its events.

    Raises ValueError if the body is neither.
    """
    try:
        return decode_json(data)
    except ValueError:
        decoder = SSEDecoder()
        events = [*decoder.feed(data), *decoder.close()]
        if not events:
            raise
    values: list[JSON] = []
    for event in events:
        values.append(decode_event(event))
        if values[-1] == DONE:
            break
    return values
