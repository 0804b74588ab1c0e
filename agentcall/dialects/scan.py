"""Text that arrives in pieces, and the steps that the readers of all families are made of.

A step is a generator that yields whenever it needs more text, so that a reader is written as if
the text were whole. Each step's result depends on the text alone, never on where it was cut.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar, Union

from agentcall.dialects.parts import Broken, Called, Part, Said, Thought
from agentcall.jsontext import Balance
from agentcall.messages import JSON

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]

_FINISHED = frozenset({"stop", "tool_calls", "function_call", "end_turn", "tool_use", "eos"})
_TIMES = 8
_FREE = 10_000


class Offered(Protocol):
    """What a reader has to know of a tool."""

    @property
    def name(self) -> str:
        """The name the model calls it by."""
        ...

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The JSON Schema of its arguments."""
        ...


Offers: TypeAlias = "Iterable[Union[Offered, str]]"
Schema: TypeAlias = "Mapping[str, JSON]"

_PREFIXES = ("functions.", "function.", "default_api.", "tools.", "tool.")


def plain_name(name: str) -> str:
    """A tool's name without what models vary: case, separators, a known prefix."""
    short = name.strip()
    for prefix in _PREFIXES:
        short = short.removeprefix(prefix)
    return re.sub(r"[-_.\s]", "", short).casefold()


class Tools:
    """The offered tools by name, exact or nearly so."""

    def __init__(self, offers: Offers) -> None:
        self._schemas: dict[str, Schema] = {}
        for offer in offers:
            if isinstance(offer, str):
                self._schemas[offer] = {}
            else:
                self._schemas[offer.name] = offer.parameters
        self._plain = {plain_name(name): name for name in reversed(self._schemas)}

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def find(self, name: str) -> str | None:
        """The offered name that this one means: the same, or another spelling of it."""
        return name if name in self._schemas else self._plain.get(plain_name(name))

    def schema(self, name: str) -> Schema:
        """The schema of the tool that this name means, empty if it is not known."""
        found = self.find(name)
        return self._schemas[found] if found is not None else {}


class Needles:
    """Fixed texts that are looked for together; the first in the text is found."""

    def __init__(self, *texts: str) -> None:
        ordered = sorted(set(texts), key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, ordered)))
        self._prefixes = frozenset(text[:end] for text in texts for end in range(1, len(text)))
        self._firsts = frozenset(text[0] for text in texts)
        self._longest = max(map(len, texts))

    def held(self, text: str, at: int) -> int:
        """How many characters at the end of the text could begin one of the needles."""
        size = len(text)
        for length in range(min(self._longest - 1, size - at), 0, -1):
            if text[size - length] in self._firsts and text[size - length :] in self._prefixes:
                return length
        return 0


@dataclass(slots=True)
class Source:
    """The text that is still to be read, and the parts that were read from it.

    `finish` is the server's finish_reason once the text has `ended`. `marked` is whether any
    markup was read.
    """

    tools: Tools
    text: str = ""
    at: int = 0
    ended: bool = False
    finish: str | None = None
    parts: list[Part] = field(default_factory=list[Part])
    marked: bool = False
    line_start: bool = True
    consumed: int = 0
    _given_back: int = 0
    _raw: list[str] = field(default_factory=list[str])
    _blank: str = ""
    _trim: bool = False

    @property
    def finished(self) -> bool:
        """Whether the text has ended because the model was done, not because it was cut."""
        return self.finish in _FINISHED

    @property
    def left(self) -> int:
        """How many characters are at hand."""
        return len(self.text) - self.at

    def push(self, piece: str) -> None:
        """Takes in a piece of text."""
        self.text = self.text[self.at :] + piece
        self.at = 0

    def more(self) -> Steps[bool]:
        """Waits for more text; False at the end."""
        had = self.left
        while self.left == had and not self.ended:
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
        self.at += count
        self.consumed += count
        self._raw.append(piece)
        return piece

    def sees(self, *texts: str) -> Steps[str]:
        """The one of these texts that comes next, or an empty text; goes past nothing."""
        while True:
            ahead = self.text[self.at : self.at + max(map(len, texts))]
            for text in texts:
                if ahead.startswith(text):
                    return text
            if not any(text.startswith(ahead) for text in texts):
                return ""
            if not (yield from self.more()):
                return ""

    def eats(self, *texts: str) -> Steps[str]:
        """Like `sees`, and goes past it."""
        seen = yield from self.sees(*texts)
        self.take(len(seen))
        return seen

    def skip(self, chars: str = " \t\r\n") -> Steps[str]:
        """Goes past any of these characters, and gives them."""
        pieces: list[str] = []
        while True:
            size, at = len(self.text), self.at
            while at < size and self.text[at] in chars:
                at += 1
            pieces.append(self.take(at - self.at))
            if at < size or not (yield from self.more()):
                return "".join(pieces)

    def peek(self) -> Steps[str]:
        """The next character, empty at the end."""
        yield from self.fill(1)
        return self.text[self.at : self.at + 1]

    def upto(self, needles: Needles) -> Steps[tuple[str, str]]:
        """The text up to the first needle, and the needle; an empty needle at the end."""
        pieces: list[str] = []
        while True:
            found = needles.pattern.search(self.text, self.at)
            if found is not None:
                pieces.append(self.take(found.start() - self.at))
                return "".join(pieces), self.take(len(found.group()))
            held = needles.held(self.text, self.at)
            pieces.append(self.take(self.left - held))
            if not (yield from self.more()):
                pieces.append(self.take(self.left))
                return "".join(pieces), ""

    def value(self, balance: Balance) -> Steps[bool]:
        """Goes past the rest of a list or object; False if it does not end well."""
        while True:
            end = balance.run(self.text, self.at)
            self.take((len(self.text) if end < 0 else end) - self.at)
            if end >= 0:
                return not balance.stopped
            if not (yield from self.more()):
                return False

    def mark(self) -> None:
        """From here on the text can be given back."""
        self._raw = []

    def raw(self) -> str:
        """The text since the mark."""
        joined = "".join(self._raw)
        self._raw = [joined]
        return joined

    def give_back(self) -> bool:
        """Puts the text since the mark back to be read again, unless that was done too often."""
        raw = self.raw()
        if self._given_back + len(raw) > _TIMES * self.consumed + _FREE:
            return False
        self._given_back += len(raw)
        self.text = raw + self.text[self.at :]
        self.at = 0
        self.consumed -= len(raw)
        self._raw = []
        return True

    def say(self, text: str) -> None:
        """Gives text to the user; blanks beside markup are held back."""
        if self._trim:
            text = text.lstrip()
        if not text:
            return
        if not text.strip() and (self.marked or self._blank or not self.parts_said):
            self._blank += text
            return
        self.parts.append(Said(self._blank + text))
        self._blank, self._trim = "", False

    @property
    def parts_said(self) -> bool:
        return False
