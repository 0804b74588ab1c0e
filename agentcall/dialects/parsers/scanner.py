"""Text that arrives in pieces, and the steps that the readers of all families are made of.

A step is a generator that yields whenever it needs more text, so that a reader is written as if
the text were whole. Each step's result depends on the text alone, never on where it was cut.
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
"""The finish reasons of a server whose model was done; the closing marker may be its stop word."""
_BACKTRACK_FACTOR = 8
_BACKTRACK_ALLOWANCE = 10_000


class Delimiters:
    """Fixed texts that are looked for together; the first in the text is found."""

    def __init__(self, *texts: str) -> None:
        ordered = sorted(set(texts), key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, ordered)))
        self._prefixes = frozenset(text[:end] for text in texts for end in range(1, len(text)))
        self._first = re.compile("|".join({re.escape(text[0]) for text in texts}))
        self._longest = max(map(len, texts))

    def count_partial(self, text: str, start: int) -> int:
        """How many characters at the end of the text could begin one of the needles."""
        for found in self._first.finditer(text, max(len(text) - self._longest + 1, start)):
            if text[found.start() :] in self._prefixes:
                return len(text) - found.start()
        return 0


class TextScanner:
    """The text that is still to be read; what was read since the mark can be given back.

    `finish` is the server's finish_reason once the text has `ended`.
    """

    def __init__(self) -> None:
        self.text = ""
        self.position = 0
        self.is_ended = False
        self.finish_reason: str | None = None
        self._consumed = 0
        self._backtracked = 0
        self._marked_pieces: list[str] = []
        self._pieces: list[str] = []
        self._starts: list[int] = [0]

    @property
    def is_complete(self) -> bool:
        """Whether the text ended because the model was done, not because it was cut."""
        return self.is_ended and self.finish_reason in STOP_REASONS

    @property
    def remaining(self) -> int:
        """How many characters are at hand."""
        return len(self.text) - self.position

    def push(self, piece: str) -> None:
        """Takes in a piece of text."""
        self.text = self.text[self.position :] + piece
        self.position = 0
        self._pieces.append(piece)

    @property
    def consumed(self) -> int:
        """How many characters of all text were read."""
        return self._consumed

    def get_text_since(self, offset: int) -> str:
        """What was read since this place."""
        for piece in self._pieces[len(self._starts) - 1 :]:
            self._starts.append(self._starts[-1] + len(piece))
        first = bisect_right(self._starts, offset) - 1
        start = self._starts[first]
        return "".join(self._pieces[first:])[offset - start : self._consumed - start]

    def rewind(self, offset: int) -> bool:
        """Puts the text since this place back; False, and nothing happens, as in `give_back`."""
        rest = self.get_text_since(offset)
        if not self._can_backtrack(rest):
            return False
        self._restore(rest)
        return True

    def wait_for_more(self) -> Scan[bool]:
        """Waits for more text; False at the end."""
        had = len(self.text) - self.position
        while len(self.text) - self.position == had and not self.is_ended:
            yield
        return self.remaining > had

    def fill(self, count: int) -> Scan[bool]:
        """Waits until so many characters are at hand; False if the text ends before."""
        while self.remaining < count:
            if not (yield from self.wait_for_more()):
                return False
        return True

    def take(self, count: int) -> str:
        """Goes past so many characters, and gives them."""
        piece = self.text[self.position : self.position + count]
        self.position += len(piece)
        self._consumed += len(piece)
        self._marked_pieces.append(piece)
        return piece

    def peek(self) -> Scan[str]:
        """The next character, empty at the end."""
        yield from self.fill(1)
        return self.text[self.position : self.position + 1]

    def look_ahead(self, *texts: str) -> Scan[str]:
        """The longest of these texts that comes next, or an empty text; goes past nothing."""
        longest = max(map(len, texts))
        while True:
            ahead = self.text[self.position : self.position + longest]
            unclear = any(len(text) > len(ahead) and text.startswith(ahead) for text in texts)
            if not unclear or not (yield from self.wait_for_more()):
                return max((text for text in texts if ahead.startswith(text)), key=len, default="")

    def accept(self, *texts: str) -> Scan[str]:
        """Like `sees`, and goes past it."""
        seen = yield from self.look_ahead(*texts)
        return self.take(len(seen))

    def accept_partial(self, *texts: str) -> bool:
        """Whether the text ends inside of one of these; it is then behind us."""
        rest = self.text[self.position :]
        if not self.is_ended or not rest or not any(text.startswith(rest) for text in texts):
            return False
        self.take(len(rest))
        return True

    def skip(self, chars: str = BLANK) -> Scan[str]:
        """Goes past any of these characters, and gives them."""
        pieces: list[str] = []
        while True:
            size, at = len(self.text), self.position
            while at < size and self.text[at] in chars:
                at += 1
            pieces.append(self.take(at - self.position))
            if at < size or not (yield from self.wait_for_more()):
                return "".join(pieces)

    def look_past_blanks(self, *texts: str) -> Scan[str | None]:
        """Which of these comes next behind blanks; empty at the end of the text, None for others.

        Goes past nothing.
        """
        blanks, longest = 0, max(map(len, texts))
        while True:
            here = self.position + blanks
            while here < len(self.text) and self.text[here] in BLANK:
                here += 1
            blanks = here - self.position
            seen = self.text[here : here + longest]
            for text in texts:
                if seen.startswith(text):
                    return text
            if blanks > _BACKTRACK_ALLOWANCE or (
                seen and not any(text.startswith(seen) for text in texts)
            ):
                return None
            if not (yield from self.wait_for_more()):
                return None if seen else ""

    def unread(self, text: str) -> None:
        """Puts the text that was just read back."""
        self._marked_pieces = [self.get_marked_text().removesuffix(text)]
        self._restore(text)

    def stream_until(self, delimiters: Delimiters, write: Callable[[str], None]) -> Scan[str]:
        """Gives the text up to the first needle as it comes, then the needle; empty at the end."""
        while True:
            found = delimiters.pattern.search(self.text, self.position)
            if found is not None:
                write(self.take(found.start() - self.position))
                return self.take(len(found.group()))
            write(self.take(self.remaining - delimiters.count_partial(self.text, self.position)))
            if not (yield from self.wait_for_more()):
                write(self.take(self.remaining))
                return ""

    def read_until(self, delimiters: Delimiters) -> Scan[tuple[str, str]]:
        """The text up to the first needle, and the needle; an empty needle at the end."""
        pieces: list[str] = []
        needle = yield from self.stream_until(delimiters, pieces.append)
        return "".join(pieces), needle

    def read_value(self, balance: BracketMatcher | None = None) -> Scan[str]:
        """The list or object that comes next, or its rest; empty if it does not end well."""
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
        """From here on, and with what was read just before, the text can be given back."""
        self._marked_pieces = [before]

    def get_marked_text(self) -> str:
        """The text since the mark."""
        joined = "".join(self._marked_pieces)
        self._marked_pieces = [joined]
        return joined

    def backtrack(self, keep: int = 0) -> bool:
        """Puts the text since the mark, but for its first characters, back to be read again.

        False, and nothing happens, where that was done so often that reading would take longer
        than in proportion to the text.
        """
        kept, rest = self.get_marked_text()[:keep], self.get_marked_text()[keep:]
        if not self._can_backtrack(rest):
            return False
        self._marked_pieces = [kept]
        self._restore(rest)
        return True

    def _can_backtrack(self, text: str) -> bool:
        may = (
            self._backtracked + len(text)
            <= _BACKTRACK_FACTOR * self._consumed + _BACKTRACK_ALLOWANCE
        )
        self._backtracked += len(text) if may else 0
        return may

    def _restore(self, text: str) -> None:
        self._consumed -= len(text)
        start = self.position - len(text)
        if start >= 0 and self.text.startswith(text, start):
            self.position = start
        else:
            self.text = text + self.text[self.position :]
            self.position = 0
