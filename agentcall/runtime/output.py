"""Parses the answers of a run as values of the agent's output type.

An `OutputParser` is a value made from a type and a mode; a run may have another one than its agent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from agentcall.errors import ArgumentsError, UsageError
from agentcall.messages import JSON
from agentcall.runtime.prompts import (
    SEVERAL_OUTPUTS,
    format_invalid_output,
    format_missing_call,
    format_unnamed_output,
)

if TYPE_CHECKING:  # `Agent` imports this file, and a file of agents needs none of these
    from agentcall.dialects.dialect import PromptSpec
    from agentcall.events import Emit
    from agentcall.lenient_json import ParsedJSON
    from agentcall.runtime.output_choices import OutputChoice
    from agentcall.runtime.planned_call import OutputCall
    from agentcall.tools.tool import Tool

OutputMode: TypeAlias = Literal["auto", "schema", "tool", "prompt"]
"""How a model is held to the output type; see `Agent.output_mode`."""

_FENCE = re.compile(r"```(?:\w*)[ \t]*\n?(.*?)```", re.DOTALL)
_OPENING = re.compile(r"[\[{]")
_MAX_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class InvalidOutput:
    """An answer that is not of the output type.

    message: tells the model why, and what to do. reason: tells the developer why.
    """

    message: str
    reason: str


class OutputParser:
    """Parses answers as outputs of one type: plain text, a type, a function, or one of several.

    mode: how the model is held to it; "auto" becomes "tool" for what an answer in text cannot be: a
        text or the call of a function, and a function that needs approval.
    schema: the JSON Schema of an answer in text; None if it is plain text, or a call of a tool.
    accepts_text: whether plain text is an output.
    tools: the output tools, whose calls end the run.

    Raises UsageError and SchemaError for a type or a mode that does not exist.
    """

    def __init__(self, output_type: object, mode: OutputMode = "auto") -> None:
        if mode not in get_args(OutputMode):
            known = ", ".join(map(repr, get_args(OutputMode)))
            raise UsageError(f"output_mode={mode!r}: it has to be one of {known}")
        self.mode = mode
        self.schema: dict[str, JSON] | None = None
        self.accepts_text = True
        self.tools: tuple[Tool, ...] = ()
        self._choices: tuple[OutputChoice, ...] = ()
        self._tool_choices: Mapping[str, OutputChoice] = {}
        if output_type is not str:
            self._set_choices(output_type)

    def _set_choices(self, output_type: object) -> None:
        # late: most agents answer with text
        from agentcall.runtime import output_choices

        forms = output_choices.list_forms(output_type)
        has_function = any(map(output_choices.is_output_function, forms))
        self.accepts_text = str in forms and (len(forms) == 1 or has_function)
        needs_approval = has_function and output_choices.needs_approval(forms)
        if self.mode == "auto" and ((self.accepts_text and has_function) or needs_approval):
            self.mode = "tool"
        if needs_approval and self.mode != "tool":
            raise UsageError(
                f"output_mode={self.mode!r}: a function of output_type needs approval, which only "
                'the call of a tool can wait for; use output_mode="tool"'
            )
        if self.mode == "tool":
            self.accepts_text = str in forms
            self._choices = output_choices.create_alternatives(forms)
            named = self._tool_choices = output_choices.create_output_tools(self._choices)
            self.tools = tuple(
                output_choices.create_output_tool(name, choice, is_only=len(named) == 1)
                for name, choice in named.items()
            )
        elif forms != (str,):
            self.accepts_text = False
            self._choices = output_choices.create_choices(forms)
            self.schema = output_choices.join_schemas(self._choices)

    @property
    def is_plain_text(self) -> bool:
        """Whether nothing but plain text is an output."""
        return not self._choices

    def emit_partial_outputs(self, emit: Emit) -> Emit:
        """Return `emit` with the beginnings of answers as events, if an answer is a value itself.

        The value of a function is not: it is called once the answer is complete.
        """
        from agentcall.runtime.partial_output import PartialEmitter

        output = None if len(self._choices) != 1 else self._choices[0].type
        return emit if output is None else PartialEmitter(emit, output)

    @property
    def functions(self) -> tuple[Tool, ...]:
        """The output functions as tools."""
        return tuple(tool for choice in self._choices if (tool := choice.function) is not None)

    def add_to_prompt(self, prompt: PromptSpec) -> PromptSpec:
        """Return the prompt with the schema of the answer."""
        if self.schema is None and prompt.answer_schema is None:
            return prompt
        mode = "prompt" if self.mode == "tool" else self.mode
        return replace(prompt, answer_schema=self.schema, answer_mode=mode)

    def parse_exactly(self, text: str) -> object | InvalidOutput:
        """Return the value that a tool gave: the whole text, or JSON; nothing is searched for."""
        if not self._choices:
            return text
        reason = ""
        for candidate in _wrap_bare_text(text):
            for choice in self._choices:
                try:
                    return choice.load(candidate)
                except ArgumentsError as error:
                    reason = reason or _explain_mismatch(error)
        return text if self.accepts_text else InvalidOutput("", reason)

    def parse(self, text: str) -> object | OutputCall | InvalidOutput:
        """Return the value that an answer contains: the whole answer, or the JSON in it.

        An answer for an output function gives its call.
        """
        if not self._choices:
            return text
        best_error: ArgumentsError | None = None
        for candidate in _iter_candidates(text):
            try:
                return self._refuse_guess(text, self._parse_json(candidate))
            except ArgumentsError as error:
                # The error of a JSON value is more helpful than "this text is not JSON".
                if best_error is None or candidate in _find_json_values(candidate):
                    best_error = error
        for candidate in _iter_unwrapped(text, self._wrapper_names):
            with suppress(ArgumentsError):
                return self._refuse_guess(text, self._parse_json(candidate))
        if self.accepts_text:
            return text
        reason = "it is not JSON" if best_error is None else _explain_mismatch(best_error)
        if self.tools:
            return InvalidOutput(format_missing_call(tool.name for tool in self.tools), reason)
        return InvalidOutput(format_invalid_output(best_error), reason)

    def _refuse_guess(self, text: str, value: object) -> object:
        """Return the value, unless a function would be called with one of several JSON values."""
        if not self.functions:
            return value
        from agentcall.runtime.planned_call import OutputCall  # late: a run imports it

        if not isinstance(value, OutputCall):
            return value
        found = {json.dumps(json.loads(each), sort_keys=True) for each in _find_json_values(text)}
        if len(found) <= 1:
            return value
        return InvalidOutput(format_invalid_output(SEVERAL_OUTPUTS), "it has several JSON values")

    @property
    def _wrapper_names(self) -> frozenset[str]:
        """Names of the only key of an object around the value."""
        return frozenset(name for choice in self._choices for name in choice.wrapper_names)

    def _parse_json(self, text: str) -> object:
        """Return the output of a JSON text. Raises ArgumentsError."""
        if len(self._choices) == 1:
            return self._choices[0].parse(text)
        value = _parse_json(text)
        members = value if isinstance(value, dict) else {}
        named = [choice for choice in self._choices if choice.name == members.get("name")]
        arguments = members.get("arguments", members.get("parameters"))
        if named and arguments is not None:
            return named[0].parse(json.dumps(arguments, ensure_ascii=False))
        found: list[object] = []
        error = ArgumentsError(format_unnamed_output([choice.name for choice in self._choices]))
        for choice in self._choices:
            try:
                found.append(choice.parse(text))
            except ArgumentsError as mismatch:
                error = mismatch if choice in named else error
        is_certain = len(found) == 1 or not self.functions
        if not found or not is_certain:
            raise error
        return found[0]

    def load(self, text: str) -> object:
        """Return an output that was stored as JSON; a value of no choice's type as it is."""
        value: object = json.loads(text)
        if self.accepts_text and isinstance(value, str):
            return value
        for choice in self._choices:
            with suppress(ArgumentsError):
                return choice.load(text)
        return value

    def find_choice(self, tool_name: str) -> OutputChoice | None:
        """Return the choice of an output tool; None for any other tool."""
        return self._tool_choices.get(tool_name)


def _wrap_bare_text(text: str) -> Iterator[str]:
    """Yield a text that is JSON as it is, then the text as a JSON string."""
    yield text
    yield json.dumps(text, ensure_ascii=False)


def _explain_mismatch(error: ArgumentsError) -> str:
    """Return the problems of an answer on one line."""
    problems = [
        f"{problem.path or 'the value'} is {problem.value!r:.100}, expected {problem.expected}"
        for problem in error.problems
    ]
    return "; ".join(problems) or "it is not JSON"


def _iter_candidates(text: str) -> Iterator[str]:
    """Yield what may be the JSON of an answer, the likeliest first; at last the bare text."""
    whole = text.strip()
    fenced = [block.strip() for block in reversed(_FENCE.findall(text))]
    yield from (whole, *fenced)
    found = sorted(_find_json_values(text), key=len, reverse=True)
    yield from found
    for text_with_errors in (*fenced, whole):
        yield from _repair_json(text_with_errors)
    if not found:
        yield json.dumps(whole.strip("\"'`*. \n"))


_WRAPPER_KEYS = frozenset(
    {
        *("answer", "final_answer", "output", "final_output", "result", "final_result"),
        *(
            "response",
            "value",
            "data",
            "items",
            "list",
            "values",
            "results",
            "arguments",
            "parameters",
            "properties",
        ),
    }
)
_MAX_LAYERS = 4


def _iter_unwrapped(text: str, type_names: Collection[str]) -> Iterator[str]:
    """Yield what is inside the layers around the JSON of an answer, with nothing beside it.

    A layer is an object with one key such as `answer` or the name of a type, a list with one
    item, or a text that is JSON itself. In prose only one object counts: `[1]` may be a footnote.
    """
    whole = text.strip()
    fenced = [block.strip() for block in reversed(_FENCE.findall(text))]
    found = [found for found in _find_json_values(text) if found.startswith("{")]
    for candidate in (whole, *fenced, *(found if len(found) == 1 else ())):
        value = _parse_json(candidate)
        for _ in range(_MAX_LAYERS):
            value = _unwrap(value, type_names)
            if value is None:
                break
            yield json.dumps(value, ensure_ascii=False)


def _unwrap(value: JSON, type_names: Collection[str]) -> JSON:
    """Return what is inside one layer; None if there is none."""
    if isinstance(value, str):
        return _parse_json(value)
    if isinstance(value, list):
        return value[0] if len(value) == 1 else None
    members = dict(value) if isinstance(value, Mapping) else {}
    name = members.get("name")
    if members.get("type") == "object" or name in _WRAPPER_KEYS or name in type_names:
        members = {key: item for key, item in members.items() if key not in ("type", "name")}
    if len(members) != 1:
        return None
    ((key, item),) = members.items()
    return item if key in _WRAPPER_KEYS or key in type_names else None


def _parse_json(text: str) -> JSON:
    """Return the value of a text that is JSON, with errors or without; None if it is not."""
    parsed = _parse_leniently(text)
    return None if parsed is None else parsed.value


def _repair_json(text: str) -> Iterator[str]:
    """Yield a complete object or list whose JSON has errors of syntax, as valid JSON."""
    parsed = _parse_leniently(text)
    if parsed is not None and parsed.rule and isinstance(parsed.value, (dict, list)):
        yield json.dumps(parsed.value, ensure_ascii=False)


def _parse_leniently(text: str) -> ParsedJSON | None:
    # late: its patterns take long to compile, and few outputs need it
    from agentcall.lenient_json import ParsedJSON, parse_lenient_json

    parsed = parse_lenient_json(text)
    return parsed if isinstance(parsed, ParsedJSON) else None


def _find_json_values(text: str) -> Iterator[str]:
    """Yield the JSON objects and lists in a text."""
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(_MAX_ATTEMPTS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return
        start = opening.start()
        try:
            _, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            position = start + 1
        else:
            yield text[start:position]
