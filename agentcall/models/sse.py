"""Server-sent events: bytes in, the data of each event out.

Format: WHATWG HTML, 9.2 "Server-sent events". Lines end with LF, CR LF or CR, also where a piece
ends between the two; a field needs no space after its colon; comments and other fields are passed
over, and so are events without data.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class SSEDecoder:
    """Cuts a byte stream into the data of its events."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event that this piece completes."""
        # A CR that ends the piece may be half of a CR LF: it waits.
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, max(len(data) - 1, 0))) + 1
        if not end:
            self._rest.append(data)
            return []
        lines = b"".join((*self._rest, data[:end])).splitlines()
        self._rest = [data[end:]]
        return self._consume_lines(lines)

    def close(self) -> list[bytes]:
        """The data of events that the stream's end completes."""
        lines = b"".join(self._rest).splitlines()
        self._rest = []
        return self._consume_lines([*lines, b""])

    def _consume_lines(self, lines: list[bytes]) -> list[bytes]:
        """Takes lines in; gives the data of the events that they end."""
        events: list[bytes] = []
        for line in lines:
            if not line:
                event = b"\n".join(self._data)
                self._data.clear()
                if event:
                    events.append(event)
                continue
            text = line.removeprefix(_BOM)
            if text.startswith(b"data:"):
                self._data.append(text[6:] if text.startswith(b"data: ") else text[5:])
        return events
