"""Server-sent events: bytes in, the data of each event out.

Format: WHATWG HTML, 9.2 "Server-sent events". Line ends may be LF, CRLF or CR LF across pieces; a
data line needs no space after its colon; comments and other fields are passed over. As every
chat completion event is one line of JSON, each data line that ends an event is joined as the
standard says.
"""

from __future__ import annotations


class EventReader:
    """Cuts a byte stream into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that this piece completes."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        return [event for line in lines if (event := self._line(line.rstrip(b"\r"))) is not None]

    def close(self) -> list[bytes]:
        """The data of an event that the stream's end completes."""
        last = [self._line(self._rest.rstrip(b"\r")), self._line(b"")]
        return [event for event in last if event is not None]

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            event, self._data = b"\n".join(self._data), []
            return event or None
        if line.startswith(b"data:"):
            value = line[5:]
            self._data.append(value[1:] if value.startswith(b" ") else value)
        return None
