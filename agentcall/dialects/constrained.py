"""One JSON object a turn, held to a schema by the server: a plan, a call, or the answer.

For small models, and for servers whose own tool calling is broken but which honour
`response_format: json_schema` (llama.cpp, LMDeploy since 0.10.2, vLLM).

    {"plan": "a = price('tea'); answer = mul(3, a)"}        what the task needs, as Python
    {"name": "mul", "arguments": {"a": 3, "b": 4}}          one call, held to the tool's schema
    {"answer": "They cost 12 dollars."}                     the answer, of the type asked for

Rules:
1. Of a plan, the calls that need no other's result are carried out at once. Below the results
   stands what is then next, with the results put in: the model only has to copy it, and may do
   otherwise. Below the last result stands the question once more.
2. `name` stands before `arguments`, so that the model first chooses and is then held to that tool.
3. The first object of an answer counts, and objects with further calls right behind it; what
   follows is a weak model's dream of how it goes on. Text that is no object is read as text.
4. A plan is the thinking of its message, so that it survives wherever a conversation is kept.
Measured, on Qwen2.5-Coder-1.5B: calls alone end right for half of the multi-step questions; a
free field for thoughts made it worse. docs/embedded.md has the figures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from agentcall.dialects.frame import result_text, user_message
from agentcall.dialects.neutral import neutralise
from agentcall.dialects.plan import Done, Step, read_plan
from agentcall.dialects.protocol import Choice, Offer, Opening, Reader, Wire
from agentcall.dialects.signature import answer_signature, signature
from agentcall.dialects.turn_schema import turn_schema
from agentcall.dialects.turns import TurnReader
from agentcall.messages import (
    JSON,
    Assistant,
    Message,
    System,
    ToolCall,
    ToolResult,
    User,
    json_text,
    system_json,
    to_json,
)

QUESTION = 300
"""How much of the question stands below the last result (characters)."""

_TOOLS = """\
You solve the user's task with tools:
{tools}
Reply with one JSON object, one of:
{{"plan": "..."}}: first, all the calls that the task needs, conversions too, as Python
{{"name": ..., "arguments": {{...}}}}: the next call of the plan
{{"answer": {answer}}}: the words to the user, when nothing is left to call; at once only for chat
Facts come from tools, never from memory.

Examples with other tools:
User: Hi, who are you?
{{"answer": "I am an assistant. How can I help you?"}}
User: What do 3 teas and 2 cakes cost in euros?
{{"plan": "a = mul(3, price('tea')); b = mul(2, price('cake')); answer = to_euros(add(a, b))"}}
price("tea") = 4
price("cake") = 5
Next: mul(3, 4)
{{"name": "mul", "arguments": {{"x": 3, "y": 4}}}}
...
to_euros(22) = 19.8
Done. Answer the user, who said: What do 3 teas and 2 cakes cost in euros?
{{"answer": "They cost 19.80 euros."}}
User: Which river is longer, the Elbe or the Rhine?
{{"plan": "a = length('Elbe'); b = length('Rhine'); answer = a, b"}}
length("Elbe") = 1094
length("Rhine") = 1230
Done. Answer the user, who said: Which river is longer, the Elbe or the Rhine?
{{"answer": "1230 > 1094, so the Rhine is longer."}}
User: Thanks a lot!
{{"answer": "You are welcome!"}}
"""

_NO_TOOLS = 'Reply with one JSON object: {{"answer": {answer}}}\n'


@dataclass(frozen=True, slots=True)
class Constrained:
    """The scheme of this module's first lines."""

    name: str = "constrained"

    def offer(self, offer: Offer, choice: Choice) -> Opening:
        """The tools' signatures, examples and the instructions; the turn's schema as a field."""
        if not offer.tools and offer.answer is None:
            system = [system_json(offer.instructions)] if offer.instructions else []
            return Opening(tuple(system))
        task = (_TOOLS if offer.tools else _NO_TOOLS).format(
            tools="\n".join(map(signature, offer.tools)), answer=answer_signature(offer.answer)
        )
        told = f"{task}\n{offer.instructions}" if offer.instructions else task
        schema: JSON = {"name": "turn", "strict": True, "schema": turn_schema(offer, choice)}
        held: Wire = {"response_format": {"type": "json_schema", "json_schema": schema}}
        return Opening((system_json(told),), held)

    def render(self, message: Message, before: Sequence[Message]) -> Sequence[Wire]:
        """The model's objects as it wrote them; the results of a round together, as its user."""
        if isinstance(message, ToolResult):
            return _results(message, before)
        held = _user(_written(_round(before), before)) if _is_open(_round(before)) else []
        match message:
            case Assistant(calls=()):
                return [*held, _assistant(_answer(message.text))]
            case Assistant():
                return [*held, _assistant(_calls(message))]
            case User():
                return [*held, to_json(user_message(message))]
            case System():
                return [*held, system_json(message.text)]

    def reader(self, offer: Offer) -> Reader:
        """The object of a turn; plain text where nothing was constrained."""
        return TurnReader(offer)


CONSTRAINED = Constrained()


# What the model wrote.


def _assistant(content: str) -> Wire:
    return {"role": "assistant", "content": content}


def _answer(text: str) -> str:
    """The answer's object; a typed answer's text is JSON already."""
    typed = text[:1] in ("{", "[") and _value(text) != text
    return f'{{"answer": {text if typed else json_text(text)}}}'


def _calls(message: Assistant) -> str:
    said = f"{message.text}\n" if message.text else ""
    if _is_plan(message):
        return f'{said}{{"plan": {json_text(message.thinking)}}}'
    return said + "\n".join(
        f'{{"name": {json_text(call.name)}, "arguments": {_arguments(call)}}}'
        for call in message.calls
    )


def _arguments(call: ToolCall) -> str:
    """The arguments as written; an old history may hold what is no JSON."""
    return call.arguments if _value(call.arguments) != call.arguments else json_text(call.arguments)


def _is_plan(message: Assistant) -> bool:
    """Whether the message's thinking is a plan that its calls begin."""
    plan = read_plan(message.thinking) if message.calls and message.thinking else None
    return plan is not None and [s.name for s in plan.ready()] == [c.name for c in message.calls]


# What the tools gave.


@dataclass(frozen=True, slots=True)
class _Round:
    """The calls of one message of the model and what has come of them."""

    calls: tuple[ToolCall, ...]
    results: tuple[ToolResult, ...]


def _round(messages: Sequence[Message]) -> _Round:
    """The round that a conversation ends in."""
    results: list[ToolResult] = []
    for message in reversed(messages):
        if isinstance(message, ToolResult):
            results.append(message)
            continue
        calls = message.calls if isinstance(message, Assistant) else ()
        return _Round(calls, tuple(reversed(results)))
    return _Round((), tuple(reversed(results)))


def _is_open(found: _Round) -> bool:
    """Whether a call of the round still waits while others have their results."""
    known = {result.call_id for result in found.results}
    return bool(known) and any(call.id not in known for call in found.calls)


def _results(message: ToolResult, before: Sequence[Message]) -> list[Wire]:
    """All results of a round with its last one, and what is next."""
    found = _round([*before, message])
    if _is_open(found):
        return []
    already = _round(before)
    if already.results and not _is_open(already):
        found = _Round(found.calls, (message,))
    return _user(_written(found, before), *_next([*before, message]))


def _user(*lines: str) -> list[Wire]:
    return [{"role": "user", "content": "\n".join(lines)}]


def _written(found: _Round, before: Sequence[Message]) -> str:
    return "\n".join(_result(found, result) for result in found.results)


def _result(found: _Round, result: ToolResult) -> str:
    verb = "failed:" if result.is_error else "="
    spoken = next((str(_step(c)) for c in found.calls if c.id == result.call_id), result.name)
    return f"{neutralise(spoken)} {verb} {result_text(result)}"


def _next(messages: Sequence[Message]) -> list[str]:
    """The plan's next call, or the question; nothing if there is no plan, or it was left."""
    start = next((i for i in reversed(range(len(messages))) if _ends(messages[i])), None)
    begun = None if start is None else messages[start]
    plan = read_plan(begun.thinking) if isinstance(begun, Assistant) and begun.calls else None
    if plan is None or start is None:
        return []
    left = plan.left(_done(messages[start:]))
    if left.ready and left.strays:
        return []
    if left.ready:
        return [f"Next: {neutralise(str(left.ready[0]))}"]
    failed = any(result.is_error for result in _round(messages).results)
    return [] if failed else [f"Done. Answer the user, who said: {_question(messages[:start])}"]


def _ends(message: Message) -> bool:
    """Whether the search for the plan ends here: with the plan, or with an answer."""
    return isinstance(message, Assistant) and (not message.calls or _is_plan(message))


def _done(messages: Sequence[Message]) -> list[Done]:
    steps = {call.id: _step(call) for m in messages if isinstance(m, Assistant) for call in m.calls}
    results = [m for m in messages if isinstance(m, ToolResult) and m.call_id in steps]
    return [Done(steps[r.call_id], _value(r.text), r.is_error) for r in results]


def _question(messages: Sequence[Message]) -> str:
    """What the user asked: the first of the user's messages in a row, others tell of mistakes."""
    asked = ""
    for message in reversed(messages):
        if isinstance(message, User):
            asked = message.own_text
        elif asked:
            break
    short = asked if len(asked) <= QUESTION else asked[:QUESTION] + "..."
    return neutralise(" ".join(short.split()))


def _step(call: ToolCall) -> Step:
    values = _value(call.arguments)
    return Step(call.name, tuple(values.values()) if isinstance(values, dict) else (values,))


def _value(text: str) -> JSON:
    """The JSON value of a text, else the text itself."""
    try:
        value: JSON = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value
