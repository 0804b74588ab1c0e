"""Text that arrives in pieces, and the steps that the readers of all families are made of.

A step is a generator that yields whenever it needs more text, so that a reader is written as if
the text were whole. Each step's result depends on the text alone, never on where it was cut.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

from agentcall.jsontext import Balance

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]

BLANK = " \t\r\n"
FINISHED = frozenset({"stop", "tool_calls", "function_call", "end_turn", "tool_use", "eos"})
"""The finish reasons of a server whose model was done; the closing marker may be its stop word."""
_TIMES = 8
_FREE = 10_000


class Needles:
    """Fixed texts that are looked for together; the first in the text is found."""

    def __init__(self, *texts: str) -> None:
        ordered = sorted(set(texts), key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, ordered)))
        self._prefixes = frozenset(text[:end] for text in texts for end in range(1, len(text)))
        self._first = re.compile("|".join({re.escape(text[0]) for text in texts}))
        self._longest = max(map(len, texts))

    def held(self, text: str, at: int) -> int:
        """How many characters at the end of the text could begin one of the needles."""
        for found in self._first.finditer(text, max(len(text) - self._longest + 1, at)):
            if text[found.start() :] in self._prefixes:
                return len(text) - found.start()
        return 0


class Source:
    """The text that is still to be read; what was read since the mark can be given back.

    `finish` is the server's finish_reason once the text has `ended`.
    """

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.ended = False
        self.finish: str | None = None
        self._consumed = 0
        self._given_back = 0
        self._raw: list[str] = []
        self._pieces: list[str] = []
        self._starts: list[int] = [0]

    @property
    def finished(self) -> bool:
        """Whether the text ended because the model was done, not because it was cut."""
        return self.ended and self.finish in FINISHED

    @property
    def left(self) -> int:
        """How many characters are at hand."""
        return len(self.text) - self.at

    def push(self, piece: str) -> None:
        """Takes in a piece of text."""
        self.text = self.text[self.at :] + piece
        self.at = 0
        self._pieces.append(piece)

    @property
    def place(self) -> int:
        """How many characters of all text were read."""
        return self._consumed

    def since(self, place: int) -> str:
        """What was read since this place."""
        for piece in self._pieces[len(self._starts) - 1 :]:
            self._starts.append(self._starts[-1] + len(piece))
        first = bisect_right(self._starts, place) - 1
        start = self._starts[first]
        return "".join(self._pieces[first:])[place - start : self._consumed - start]

    def rewind(self, place: int) -> bool:
        """Puts the text since this place back; False, and nothing happens, as in `give_back`."""
        rest = self.since(place)
        if not self._may_give_back(rest):
            return False
        self._put_back(rest)
        return True

    def more(self) -> Steps[bool]:
        """Waits for more text; False at the end."""
        had = len(self.text) - self.at
        while len(self.text) - self.at == had and not self.ended:
            yield
        return self.left > had

    def fill(self, count: int) -> Steps[bool]:
        """Waits until so many characters are at hand; False if the text ends before."""
        while self.left < count:
            if not (yield from self.more()):
                return False
        return True

    def take(self, count: int) -> str:
        """Goes past so many characters, and gives them."""
        piece = self.text[self.at : self.at + count]
        self.at += len(piece)
        self._consumed += len(piece)
        self._raw.append(piece)
        return piece

    def peek(self) -> Steps[str]:
        """The next character, empty at the end."""
        yield from self.fill(1)
        return self.text[self.at : self.at + 1]

    def sees(self, *texts: str) -> Steps[str]:
        """The longest of these texts that comes next, or an empty text; goes past nothing."""
        longest = max(map(len, texts))
        while True:
            ahead = self.text[self.at : self.at + longest]
            unclear = any(len(text) > len(ahead) and text.startswith(ahead) for text in texts)
            if not unclear or not (yield from self.more()):
                return max((text for text in texts if ahead.startswith(text)), key=len, default="")

    def eats(self, *texts: str) -> Steps[str]:
        """Like `sees`, and goes past it."""
        seen = yield from self.sees(*texts)
        return self.take(len(seen))

    def cut_short(self, *texts: str) -> bool:
        """Whether the text ends inside of one of these; it is then behind us."""
        rest = self.text[self.at :]
        if not self.ended or not rest or not any(text.startswith(rest) for text in texts):
            return False
        self.take(len(rest))
        return True

    def skip(self, chars: str = BLANK) -> Steps[str]:
        """Goes past any of these characters, and gives them."""
        pieces: list[str] = []
        while True:
            size, at = len(self.text), self.at
            while at < size and self.text[at] in chars:
                at += 1
            pieces.append(self.take(at - self.at))
            if at < size or not (yield from self.more()):
                return "".join(pieces)

    def ahead(self, *texts: str) -> Steps[str | None]:
        """Which of these comes next behind blanks; empty at the end of the text, None for others.

        Goes past nothing.
        """
        blanks, longest = 0, max(map(len, texts))
        while True:
            here = self.at + blanks
            while here < len(self.text) and self.text[here] in BLANK:
                here += 1
            blanks = here - self.at
            seen = self.text[here : here + longest]
            for text in texts:
                if seen.startswith(text):
                    return text
            if blanks > _FREE or (seen and not any(text.startswith(seen) for text in texts)):
                return None
            if not (yield from self.more()):
                return None if seen else ""

    def unread(self, text: str) -> None:
        """Puts the text that was just read back."""
        self._raw = [self.raw().removesuffix(text)]
        self._put_back(text)

    def flow(self, needles: Needles, give: Callable[[str], None]) -> Steps[str]:
        """Gives the text up to the first needle as it comes, then the needle; empty at the end."""
        while True:
            found = needles.pattern.search(self.text, self.at)
            if found is not None:
                give(self.take(found.start() - self.at))
                return self.take(len(found.group()))
            give(self.take(self.left - needles.held(self.text, self.at)))
            if not (yield from self.more()):
                give(self.take(self.left))
                return ""

    def upto(self, needles: Needles) -> Steps[tuple[str, str]]:
        """The text up to the first needle, and the needle; an empty needle at the end."""
        pieces: list[str] = []
        needle = yield from self.flow(needles, pieces.append)
        return "".join(pieces), needle

    def value(self, balance: Balance | None = None) -> Steps[str]:
        """The list or object that comes next, or its rest; empty if it does not end well."""
        balance = balance or Balance()
        pieces: list[str] = []
        while True:
            end = balance.run(self.text, self.at)
            pieces.append(self.take((len(self.text) if end < 0 else end) - self.at))
            if end >= 0:
                return "" if balance.stopped else "".join(pieces)
            if not (yield from self.more()):
                return ""

    def mark(self, before: str = "") -> None:
        """From here on, and with what was read just before, the text can be given back."""
        self._raw = [before]

    def raw(self) -> str:
        """The text since the mark."""
        joined = "".join(self._raw)
        self._raw = [joined]
        return joined

    def give_back(self, keep: int = 0) -> bool:
        """Puts the text since the mark, but for its first characters, back to be read again.

        False, and nothing happens, where that was done so often that reading would take longer
        than in proportion to the text.
        """
        kept, rest = self.raw()[:keep], self.raw()[keep:]
        if not self._may_give_back(rest):
            return False
        self._raw = [kept]
        self._put_back(rest)
        return True

    def _may_give_back(self, text: str) -> bool:
        may = self._given_back + len(text) <= _TIMES * self._consumed + _FREE
        self._given_back += len(text) if may else 0
        return may

    def _put_back(self, text: str) -> None:
        self._consumed -= len(text)
        start = self.at - len(text)
        if start >= 0 and self.text.startswith(text, start):
            self.at = start
        else:
            self.text = text + self.text[self.at :]
            self.at = 0
