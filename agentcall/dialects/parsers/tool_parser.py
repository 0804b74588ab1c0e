"""What a family's parser works with: the rest of the text, the tools, and the parts it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from agentcall.dialects.answer_parts import (
    MalformedCallPart,
    MessagePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from agentcall.dialects.dialect import ToolSet
from agentcall.dialects.parsers.scanner import Scan, TextScanner


@dataclass(frozen=True, slots=True)
class RetractedPart(ThinkingPart):
    """All text and calls before it are void: they were this thinking, except for `kept_text`.

    A server's chat template may open the thinking itself, so that the answer contains only its end.
    `opener` is the tag that the template wrote; it is empty if there was no thinking after all, and
    then all thinking before is void, too. A client that has displayed the text may withdraw it.
    """

    kept_text: str = ""
    opener: str | None = field(default=None, compare=False)


class PartWriter:
    """Collects the parts of an answer. Blanks beside markup are dropped, all other text is kept."""

    def __init__(self) -> None:
        self.has_markup = False
        self.has_call = False
        self.has_thinking = False
        self._is_in_thinking = False
        self.is_at_line_start = True
        self.last_character = ""
        self.has_text = False
        self._parts: list[MessagePart] = []
        self._texts: list[str] = []
        self._blanks: list[str] = []
        self._is_beside_markup = True
        self._trims_next = False

    def write_text(self, text: str) -> None:
        """Write text for the user."""
        if not text:
            return
        self.last_character = text[-1]
        self.is_at_line_start = self.last_character == "\n" or (
            self.is_at_line_start and text.isspace()
        )
        if self._is_beside_markup:
            if text.isspace():
                self._blanks.append(text)
                return
            text = text.lstrip() if self._trims_next else self._join_blanks() + text
            self._is_beside_markup = self._trims_next = False
            self._blanks = []
        self.has_text = True
        self._texts.append(text)
        self._parts.append(TextPart(text))

    def write_thinking(self, text: str) -> None:
        """Write thinking; blanks around it are dropped."""
        if not text:
            return
        if text.isspace():
            self._blanks.append(text)
            return
        text = self._join_blanks() + text if self._is_in_thinking else text.lstrip()
        body = text.rstrip()
        self._blanks = [text[len(body) :]]
        self._parts.append(ThinkingPart(body))
        self.has_thinking = self._is_in_thinking = True

    def begin_thinking(self) -> None:
        """Begin a new piece of thinking."""
        self._note_markup()
        self._is_in_thinking = False

    def end_thinking(self, *, is_cut: bool = False) -> None:
        """End the thinking; `is_cut` keeps its trailing blanks, as more may belong to it."""
        blank = self._join_blanks()
        if is_cut and blank and self._is_in_thinking:
            self._parts.append(ThinkingPart(blank))
        self._note_markup()
        self._trims_next = True

    def write_call(self, name: str, arguments: str, call_id: str = "") -> None:
        """Write a whole call."""
        self._note_markup()
        self.has_call = True
        self._parts.append(ToolCallPart(name, arguments, call_id))

    def write_malformed_call(self, text: str, reason: str) -> None:
        """Write markup that could not be read."""
        self._note_markup()
        self._parts.append(MalformedCallPart(text, reason))

    def drop_markup(self) -> None:
        """Note that markup without a meaning of its own was read."""
        self._note_markup()

    def retract_as_thinking(self, thinking: str, opener: str | None) -> None:
        """Turn everything before into thinking, whose opener the chat template had written."""
        self._texts = []
        self.has_text = False
        self._note_markup()
        self._trims_next = True
        if thinking.strip():
            self._parts.append(RetractedPart(thinking.strip(), opener=opener))
        self.has_call = False

    def retract_calls(self) -> None:
        """Retract all calls before."""
        if self.has_call:
            self._parts.append(RetractedPart("", "".join(self._texts)))
        self.has_call = False
        self._note_markup()

    def retract_thinking(self) -> None:
        """Retract all thinking before; its text is about to be read again."""
        self._parts.append(RetractedPart("", opener=""))

    def _note_markup(self) -> None:
        self.has_markup = self.is_at_line_start = self._is_beside_markup = True
        self._blanks = []
        self.last_character = ""

    def _join_blanks(self) -> str:
        return "".join(self._blanks)

    def close(self) -> None:
        """Write the last blanks as text, unless they are beside markup."""
        blank = self._join_blanks()
        if blank and not self.has_markup:
            self._parts.append(TextPart(blank))

    def drain(self) -> list[MessagePart]:
        """Return the parts since the last call, with adjacent texts joined."""
        parts, self._parts = self._parts, []
        if len(parts) < 2:
            return parts
        joined: list[MessagePart] = []
        run: list[str] = []
        for part in parts:
            if type(part) is TextPart:
                run.append(part.text)
                continue
            if run:
                joined.append(TextPart("".join(run)))
                run = []
            joined.append(part)
        if run:
            joined.append(TextPart("".join(run)))
        return joined


@dataclass(slots=True)
class ParseState:
    """The state of parsing one answer.

    call_markers: texts that begin a call, with their readers.
    is_thinking_assumed: the thinking at the beginning was assumed, not written.
    is_reread: the assumption was wrong, and the text is read again.
    began_with_thinking: the answer began with thinking. thinking_depth: how many openers occurred
        inside it. thinking_end: the offset of its end.
    fence: inside a code fence, which is text or, around marked calls, markup.
    has_react_labels: a label of ReAct was read.
    """

    scanner: TextScanner
    tools: ToolSet
    writer: PartWriter = field(default_factory=PartWriter)
    call_markers: Mapping[str, Sequence[MarkupReader]] = field(
        default_factory=dict[str, "Sequence[MarkupReader]"]
    )
    is_thinking_assumed: bool = False
    is_reread: bool = False
    began_with_thinking: bool = False
    thinking_depth: int = 0
    thinking_end: int = 0
    fence: Literal["", "text", "call"] = ""
    has_react_labels: bool = False

    def close_fence(self, end: str) -> None:
        """End the current fence."""
        if self.fence == "text":
            self.writer.write_text(end)
        else:
            self.writer.drop_markup()
        self.fence = ""


MarkupReader: TypeAlias = "Callable[[ParseState], Scan[bool]]"


@dataclass(frozen=True, slots=True)
class ToolParser:
    """How one model family writes its calls.

    markers: texts that begin a call wherever they are, with the reader of what follows. A reader
        returns False if the text is not its markup after all.
    thinking: the same for thinking.
    line_starts: readers of what may begin a line, by the possible first characters; such a reader
        starts before that character.
    ignored_tokens: tokens that are removed from the text.
    """

    name: str
    markers: Mapping[str, MarkupReader] = field(default_factory=dict[str, MarkupReader])
    thinking: Mapping[str, MarkupReader] = field(default_factory=dict[str, MarkupReader])
    line_starts: Mapping[str, MarkupReader] = field(default_factory=dict[str, MarkupReader])
    ignored_tokens: tuple[str, ...] = ()
