"""One JSON object a turn, held to a schema by the server: a tool's name, then its arguments.

For small models, and for servers whose own tool calling is broken but which honour
`response_format: json_schema` (llama.cpp, LMDeploy since 0.10.2, vLLM). The final answer is one
more name to choose. As `name` stands before `arguments` in the schema, the model first chooses and
is then held to that tool's arguments. No field for thoughts: measured, it makes small models stop
after the first result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from agentcall.dialects.native import neutral_user
from agentcall.dialects.neutral import neutralise
from agentcall.dialects.parts import Broken, Called, Delta, Part, Said, Thought
from agentcall.dialects.protocol import Choice, Offer, Opening, Reader, Wire
from agentcall.dialects.signature import signature
from agentcall.messages import (
    JSON,
    Assistant,
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
    to_json,
)

FINAL = "final_answer"
"""The name that stands for the final answer."""

_TASK = """\
You are an assistant that solves the user's task by calling tools, one call at a time.
Tools:
{tools}
- {final}({answer}): Give the final answer to the user when no more tools are needed.
Reply with exactly one JSON object: {{"name": <tool>, "arguments": {{...}}}}.
Example 1 (with other tools):
User: Compute (9-1)*(2+3) with tools minus(x: number, y: number), plus(x: number, y: number), \
times(x: number, y: number)
{{"name": "minus", "arguments": {{"x": 9, "y": 1}}}}
minus(9, 1) = 8
{{"name": "plus", "arguments": {{"x": 2, "y": 3}}}}
plus(2, 3) = 5
{{"name": "times", "arguments": {{"x": 8, "y": 5}}}}
times(8, 5) = 40
{{"name": "{final}", "arguments": {{"answer": "40"}}}}
Example 2:
User: Hi, who are you?
{{"name": "{final}", "arguments": {{"answer": "I am an assistant that can use tools for you."}}}}
Work one step at a time, innermost parentheses first. Only use numbers from the user or from a \
tool result. Call {final} only when every part of the task is done.
"""


@dataclass(frozen=True, slots=True)
class Constrained:
    """The scheme of this module's first lines."""

    name: str = "constrained"

    def offer(self, offer: Offer, choice: Choice) -> Opening:
        """The task, the tools' signatures, an example; the schema of a turn as a field."""
        if not offer.tools and offer.answer is None:
            system = [to_json(System(offer.instructions))] if offer.instructions else []
            return Opening(tuple(system))
        task = _TASK.format(
            tools="\n".join(map(signature, offer.tools)), final=FINAL, answer="answer: string"
        )
        instructions = f"{task}\n{offer.instructions}" if offer.instructions else task
        schema: JSON = {"name": "turn", "strict": True, "schema": turn_schema(offer, choice)}
        held: Wire = {"response_format": {"type": "json_schema", "json_schema": schema}}
        return Opening((to_json(System(instructions)),), held)

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[Wire]:
        """Calls and answers as the object that the model wrote, results as `tool(args) = text`."""
        match message:
            case Assistant(calls=()):
                return [_assistant(FINAL, json.dumps({"answer": message.text}, ensure_ascii=False))]
            case Assistant():
                return [_assistant(call.name, call.arguments) for call in message.calls]
            case ToolResult():
                return [{"role": "user", "content": _result(message, before)}]
            case User():
                return [to_json(neutral_user(message))]
            case System():
                return [to_json(message)]

    def reader(self, offer: Offer) -> Reader:
        """The object of a turn; plain text where nothing was constrained."""
        return TurnReader(typed=offer.answer is not None)


def turn_schema(offer: Offer, choice: Choice) -> dict[str, JSON]:
    """The JSON Schema of one turn: any of the tools, or the final answer."""
    answer: dict[str, JSON] = offer.answer or {"type": "string"}
    defs: dict[str, JSON] = {}
    lifted = _lifted(answer, FINAL, defs)
    final = _turn(FINAL, {"type": "object", "properties": {"answer": lifted}, **_ONLY_ANSWER})
    calls = [_turn(tool.name, _lifted(tool.parameters, tool.name, defs)) for tool in offer.tools]
    options = [*([] if choice == "none" else calls), *([] if choice == "required" else [final])]
    schema: dict[str, JSON] = options[0] if len(options) == 1 else {"anyOf": options}
    return {**schema, "$defs": defs} if defs else schema


_ONLY_ANSWER: dict[str, JSON] = {"required": ["answer"], "additionalProperties": False}


def _turn(name: str, arguments: JSON) -> dict[str, JSON]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _lifted(schema: Mapping[str, JSON], owner: str, defs: dict[str, JSON]) -> JSON:
    """The schema with its `$defs` moved to the root's, under names that no other schema has."""
    own = schema.get("$defs")
    if not isinstance(own, Mapping):
        return schema
    defs.update({f"{owner}.{name}": _redirected(value, owner) for name, value in own.items()})
    return _redirected({k: v for k, v in schema.items() if k != "$defs"}, owner)


def _redirected(schema: JSON, owner: str) -> JSON:
    if isinstance(schema, Mapping):
        ref = schema.get("$ref")
        if isinstance(ref, str):
            return {**schema, "$ref": ref.replace("#/$defs/", f"#/$defs/{owner}.", 1)}
        return {key: _redirected(value, owner) for key, value in schema.items()}
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return [_redirected(value, owner) for value in schema]
    return schema


def _assistant(name: str, arguments: str) -> Wire:
    called = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {arguments}}}'
    return {"role": "assistant", "content": called}


def _result(result: ToolResult, before: Sequence[Message]) -> str:
    verb = "failed:" if result.is_error else "="
    return f"{_called(result, before)} {verb} {neutralise(result.text)}"


def _called(result: ToolResult, before: Sequence[Message]) -> str:
    for message in reversed(before):
        for call in message.calls if isinstance(message, Assistant) else ():
            if call.id == result.call_id:
                return _spoken(call)
    return result.name


def _spoken(call: ToolCall) -> str:
    values = json.loads(call.arguments)
    written = (json.dumps(value, ensure_ascii=False) for value in values.values())
    return f"{call.name}({', '.join(written)})"


class TurnReader:
    """Reads one turn's object; streams the text of a final answer as it grows."""

    def __init__(self, *, typed: bool) -> None:
        self._typed = typed
        self._text = ""
        self._said = 0

    def feed(self, delta: Delta) -> Sequence[Part]:
        """Thinking, and what has come of a final answer's text."""
        thought: list[Part] = [Thought(delta.thinking)] if delta.thinking else []
        self._text += delta.text
        if self._typed or not delta.text:
            return thought
        return [*thought, *self._grown(self._answer_so_far())]

    def close(self, finish: str | None) -> Sequence[Part]:
        """The call, or the rest of the answer."""
        try:
            turn = from_json(self._text)
        except ValueError:
            return self._unread(finish)
        match turn:
            case {"name": "final_answer", "arguments": {"answer": answer}}:
                text = answer if isinstance(answer, str) and not self._typed else _json(answer)
                return self._grown(text)
            case {"name": str(name), "arguments": arguments}:
                return [Called(name, _json(arguments))]
            case _:
                return self._unread(finish)

    def _answer_so_far(self) -> str:
        if not self._text.lstrip().startswith("{"):
            return self._text
        try:
            turn = from_json(self._text, allow_partial="trailing-strings")
        except ValueError:
            return ""
        match turn:
            case {"name": "final_answer", "arguments": {"answer": str(answer)}}:
                return answer
            case _:
                return ""

    def _grown(self, answer: str) -> list[Part]:
        new = answer[self._said :]
        self._said += len(new)
        return [Said(new)] if new else []

    def _unread(self, finish: str | None) -> list[Part]:
        if not self._text.lstrip().startswith("{"):
            return self._grown(self._text)
        reason = "it was cut off" if finish != "stop" else "it is not one JSON object"
        return [Broken(self._text, reason)]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
