"""A conversation as the bubbles of `gr.Chatbot`: what was said, and each tool call as an accordion.

A bubble is a message in Gradio's form: `role`, `content` (HTML of `markup`), and for an accordion
`metadata` with `title` (HTML too), `log` (a plain note behind it), `status` ("pending" while it
goes on, else "done"), and `id` and `parent_id` where one is inside another. Source:
`gr.ChatMessage`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from agentcall.calltext import call_line
from agentcall.messages import (
    JSON,
    Assistant,
    Content,
    Image,
    ToolCall,
    ToolResult,
    User,
)
from agentcall.plaintext import harmless
from agentcall.session import KeptRun
from agentcall.snapshot import capped
from agentcall.web import markup

Bubble: TypeAlias = dict[str, JSON]

_TITLE, _SHOWN = 100, 20_000


@dataclass(frozen=True, slots=True)
class Step:
    """A tool call, and how far it has come.

    waits: whether it waits for a person. repaired: what was mended in it. path: the ids of the
    calls that it is inside of, and its own.
    """

    call: ToolCall
    result: ToolResult | None = None
    seconds: float | None = None
    waits: bool = False
    repaired: str = ""
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Marks:
    """What is known of calls besides, each by the id of its run and its own.

    waiting: those that wait for a person. hidden: those that are not shown. seconds: how long they
    took.
    """

    waiting: Collection[tuple[str, str]] = ()
    hidden: Collection[tuple[str, str]] = ()
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])


def history(runs: Iterable[KeptRun], marks: Marks) -> list[Bubble]:
    """The runs of a conversation."""
    return [bubble for run in runs for bubble in _run(run, marks)]


def _run(run: KeptRun, marks: Marks) -> Iterator[Bubble]:
    results = {each.call_id: each for each in run.messages if isinstance(each, ToolResult)}
    for message in run.messages:
        match message:
            case User(content):
                yield question(content)
            case Assistant():
                yield from _said(message)
                for call in message.calls:
                    key = (run.id, call.id)
                    waits = key in marks.waiting
                    result = None if waits else results.get(call.id)
                    if key not in marks.hidden:
                        yield step(Step(call, result, marks.seconds.get(key), waits))
            case _:
                pass


def _said(message: Assistant) -> Iterator[Bubble]:
    if message.thinking.strip():
        yield thought(message.thinking)
    if message.text.strip():
        yield answer(message.text)


def question(content: Content) -> Bubble:
    """What a person said, to the letter."""
    if isinstance(content, str):
        return {"role": "user", "content": markup.render_text(content)}
    parts = (_image(p) if isinstance(p, Image) else markup.render_text(p.text) for p in content)
    return {"role": "user", "content": markup.join(*parts)}


def _image(image: Image) -> str:
    if markup.OWN_IMAGE.fullmatch(image.url):
        return markup.render_image(image.url)
    return markup.render_text(f"[image: {image.url:.200}]")


def answer(text: str) -> Bubble:
    """What the model said."""
    return {"role": "assistant", "content": markup.render_markdown(text)}


def thought(text: str, *, status: str = "done") -> Bubble:
    """What the model thought, folded once it is done."""
    metadata: JSON = {"title": "Thinking", "status": status}
    return {"role": "assistant", "content": markup.render_markdown(text), "metadata": metadata}


def asking() -> Bubble:
    """The model was asked, and has said nothing yet."""
    return {
        "role": "assistant",
        "content": "",
        "metadata": {"title": "The model is asked", "status": "pending"},
    }


def step(one: Step) -> Bubble:
    """A tool call, with its arguments and its result."""
    ended = one.result is not None or one.waits
    metadata: dict[str, JSON] = {
        "title": markup.render_text(f"{_sign(one)} {call_line(one.call, _TITLE)}"),
        "status": "done" if ended else "pending",
        "id": "/".join(one.path) or one.call.id,
    }
    if len(one.path) > 1:
        metadata["parent_id"] = "/".join(one.path[:-1])
    if note := _note(one):
        metadata["log"] = harmless(note)
    return {"role": "assistant", "content": markup.join(*_parts(one)), "metadata": metadata}


def _sign(one: Step) -> str:
    if one.waits:
        return "‖"
    if one.result is None:
        return "…"
    return "✗" if one.result.is_error else "✓"


def _note(one: Step) -> str:
    words = [
        "waits for you" if one.waits else "",
        "repaired" if one.repaired else "",
        "" if one.seconds is None else duration(one.seconds),
    ]
    return ", ".join(filter(None, words))


def duration(seconds: float) -> str:
    """A time as people read it."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "under 1 ms"


def _parts(one: Step) -> Iterator[str]:
    yield markup.render_text("Arguments")
    yield markup.render_code(_pretty(one.call.arguments))
    if one.repaired:
        yield markup.render_text(f"Repaired: {one.repaired}")
    if one.result is not None:
        yield markup.render_text("Error" if one.result.is_error else "Result")
        yield markup.render_code(capped(one.result.text, _SHOWN))


def _pretty(arguments: str) -> str:
    """JSON text with a line for each member, if that says the same."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except ValueError:
        return arguments


def note(text: str) -> Bubble:
    """What is to be said of the conversation by neither side, such as what went wrong."""
    return {"role": "assistant", "content": markup.render_text(f"⚠ {text}")}
