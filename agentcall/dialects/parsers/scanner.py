"""Text that arrives in pieces, and the reading steps that all parsers are made of.

A step is a generator that yields when it needs more text, so that a parser is written as if the
text were complete. Its result depends on the text alone, never on where the text was cut.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

from agentcall.lenient_json import BracketMatcher

T = TypeVar("T")
Scan: TypeAlias = Generator[None, None, T]

BLANK = " \t\r\n"
STOP_REASONS = frozenset({"stop", "tool_calls", "function_call", "end_turn", "tool_use", "eos"})
"""The finish reasons of a model that had finished; its closing marker may have been a stop word."""
_BACKTRACK_FACTOR = 8
_BACKTRACK_ALLOWANCE = 10_000


class Delimiters:
    """Fixed texts to search for together; the first one in the text is found."""

    def __init__(self, *texts: str) -> None:
        ordered = sorted(set(texts), key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, ordered)))
        self._prefixes = frozenset(text[:end] for text in texts for end in range(1, len(text)))
        self._first = re.compile("|".join({re.escape(text[0]) for text in texts}))
        self._longest = max(map(len, texts))

    def count_partial(self, text: str, start: int) -> int:
        """Return how many characters at the end of the text could begin one of the texts."""
        for match in self._first.finditer(text, max(len(text) - self._longest + 1, start)):
            if text[match.start() :] in self._prefixes:
                return len(text) - match.start()
        return 0


class TextScanner:
    """The text that is still to be read. Text read since the mark can be put back.

    `finish_reason` is the server's, once `is_ended` is set.
    """

    def __init__(self) -> None:
        self.text = ""
        self.position = 0
        self.is_ended = False
        self.finish_reason: str | None = None
        self._offset = 0
        self._backtracked = 0
        self._marked_pieces: list[str] = []
        self._pieces: list[str] = []
        self._starts: list[int] = [0]

    @property
    def is_complete(self) -> bool:
        """Whether the text ended because the model had finished, not because it was cut."""
        return self.is_ended and self.finish_reason in STOP_REASONS

    @property
    def remaining(self) -> int:
        """The number of characters that have arrived and are not yet read."""
        return len(self.text) - self.position

    def push(self, piece: str) -> None:
        """Append a piece of text."""
        self.text = self.text[self.position :] + piece
        self.position = 0
        self._pieces.append(piece)

    @property
    def offset(self) -> int:
        """The offset in the whole text: the number of characters read so far."""
        return self._offset

    def get_text_since(self, offset: int) -> str:
        """Return the text read since an offset."""
        for piece in self._pieces[len(self._starts) - 1 :]:
            self._starts.append(self._starts[-1] + len(piece))
        first = bisect_right(self._starts, offset) - 1
        start = self._starts[first]
        return "".join(self._pieces[first:])[offset - start : self._offset - start]

    def rewind(self, offset: int) -> bool:
        """Put the text since an offset back; return False, without effect, as `backtrack` does."""
        rest = self.get_text_since(offset)
        if not self._can_backtrack(rest):
            return False
        self._restore(rest)
        return True

    def wait_for_more(self) -> Scan[bool]:
        """Wait for more text; return False at the end."""
        before = len(self.text) - self.position
        while len(self.text) - self.position == before and not self.is_ended:
            yield
        return self.remaining > before

    def fill(self, count: int) -> Scan[bool]:
        """Wait until `count` characters have arrived; return False if the text ends before."""
        while self.remaining < count:
            if not (yield from self.wait_for_more()):
                return False
        return True

    def take(self, count: int) -> str:
        """Read `count` characters."""
        piece = self.text[self.position : self.position + count]
        self.position += len(piece)
        self._offset += len(piece)
        self._marked_pieces.append(piece)
        return piece

    def peek(self) -> Scan[str]:
        """Return the next character, empty at the end, without reading it."""
        yield from self.fill(1)
        return self.text[self.position : self.position + 1]

    def look_ahead(self, *texts: str) -> Scan[str]:
        """Return the longest of these texts that comes next, empty for none, without reading it."""
        longest = max(map(len, texts))
        while True:
            ahead = self.text[self.position : self.position + longest]
            is_undecided = any(len(text) > len(ahead) and text.startswith(ahead) for text in texts)
            if not is_undecided or not (yield from self.wait_for_more()):
                return max((text for text in texts if ahead.startswith(text)), key=len, default="")

    def accept(self, *texts: str) -> Scan[str]:
        """Read the longest of these texts that comes next, empty for none."""
        seen = yield from self.look_ahead(*texts)
        return self.take(len(seen))

    def accept_partial(self, *texts: str) -> bool:
        """Read the rest if the text ends inside one of these texts."""
        rest = self.text[self.position :]
        if not self.is_ended or not rest or not any(text.startswith(rest) for text in texts):
            return False
        self.take(len(rest))
        return True

    def skip(self, chars: str = BLANK) -> Scan[str]:
        """Read any of these characters."""
        pieces: list[str] = []
        while True:
            size, at = len(self.text), self.position
            while at < size and self.text[at] in chars:
                at += 1
            pieces.append(self.take(at - self.position))
            if at < size or not (yield from self.wait_for_more()):
                return "".join(pieces)

    def look_past_blanks(self, *texts: str) -> Scan[str | None]:
        """Return which of these texts follows after blanks, without reading.

        Empty at the end of the text, None if something else follows.
        """
        blanks, longest = 0, max(map(len, texts))
        while True:
            end = self.position + blanks
            while end < len(self.text) and self.text[end] in BLANK:
                end += 1
            blanks = end - self.position
            following = self.text[end : end + longest]
            for text in texts:
                if following.startswith(text):
                    return text
            if blanks > _BACKTRACK_ALLOWANCE or (
                following and not any(text.startswith(following) for text in texts)
            ):
                return None
            if not (yield from self.wait_for_more()):
                return None if following else ""

    def unread(self, text: str) -> None:
        """Put back the text that was just read."""
        self._marked_pieces = [self.get_marked_text().removesuffix(text)]
        self._restore(text)

    def stream_until(self, delimiters: Delimiters, write: Callable[[str], None]) -> Scan[str]:
        """Pass the text before the first delimiter to `write` as it arrives; return the delimiter.

        The delimiter is empty at the end of the text.
        """
        while True:
            match = delimiters.pattern.search(self.text, self.position)
            if match is not None:
                write(self.take(match.start() - self.position))
                return self.take(len(match.group()))
            write(self.take(self.remaining - delimiters.count_partial(self.text, self.position)))
            if not (yield from self.wait_for_more()):
                write(self.take(self.remaining))
                return ""

    def read_until(self, delimiters: Delimiters) -> Scan[tuple[str, str]]:
        """Read up to the first delimiter; return the text and the delimiter, empty at the end."""
        pieces: list[str] = []
        delimiter = yield from self.stream_until(delimiters, pieces.append)
        return "".join(pieces), delimiter

    def read_value(self, balance: BracketMatcher | None = None) -> Scan[str]:
        """Read the list or object that comes next, or its rest; empty if it does not end well."""
        balance = balance or BracketMatcher()
        pieces: list[str] = []
        while True:
            end = balance.scan(self.text, self.position)
            pieces.append(self.take((len(self.text) if end < 0 else end) - self.position))
            if end >= 0:
                return "" if balance.has_stopped else "".join(pieces)
            if not (yield from self.wait_for_more()):
                return ""

    def set_mark(self, before: str = "") -> None:
        """Set the mark here; `before`, which was read just now, belongs to the marked text."""
        self._marked_pieces = [before]

    def get_marked_text(self) -> str:
        """Return the text read since the mark."""
        joined = "".join(self._marked_pieces)
        self._marked_pieces = [joined]
        return joined

    def backtrack(self, keep: int = 0) -> bool:
        """Put the text since the mark back, except for its first `keep` characters.

        Returns False, without effect, after so much backtracking that the time would no longer be
        linear in the length of the text.
        """
        kept, rest = self.get_marked_text()[:keep], self.get_marked_text()[keep:]
        if not self._can_backtrack(rest):
            return False
        self._marked_pieces = [kept]
        self._restore(rest)
        return True

    def _can_backtrack(self, text: str) -> bool:
        # Without a limit, an answer of unfinished openers would be read once for each of them.
        limit = _BACKTRACK_FACTOR * self._offset + _BACKTRACK_ALLOWANCE
        is_allowed = self._backtracked + len(text) <= limit
        self._backtracked += len(text) if is_allowed else 0
        return is_allowed

    def _restore(self, text: str) -> None:
        self._offset -= len(text)
        start = self.position - len(text)
        # `push` drops what was read, so that the text may have to be put in front again.
        if start >= 0 and self.text.startswith(text, start):
            self.position = start
        else:
            self.text = text + self.text[self.position :]
            self.position = 0
