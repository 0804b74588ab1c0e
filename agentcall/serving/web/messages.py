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

from agentcall.display import format_call, strip_control_characters
from agentcall.messages import (
    JSON,
    Assistant,
    Content,
    Image,
    ToolCall,
    ToolResult,
    User,
)
from agentcall.serving.web import markdown
from agentcall.sessions import StoredRun
from agentcall.tools.serialize import truncate_text

ChatMessage: TypeAlias = dict[str, JSON]

_TITLE_LENGTH, _MAX_RESULT_CHARS = 100, 20_000


@dataclass(frozen=True, slots=True)
class ToolCallView:
    """A tool call, and how far it has come.

    waits: whether it waits for a person. repaired: what was mended in it. path: the ids of the
    calls that it is inside of, and its own.
    """

    call: ToolCall
    result: ToolResult | None = None
    seconds: float | None = None
    is_waiting: bool = False
    repaired: str = ""
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallInfo:
    """What is known of calls besides, each by the id of its run and its own.

    waiting: those that wait for a person. hidden: those that are not shown. seconds: how long they
    took.
    """

    waiting: Collection[tuple[str, str]] = ()
    hidden: Collection[tuple[str, str]] = ()
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])


def render_history(runs: Iterable[StoredRun], info: ToolCallInfo) -> list[ChatMessage]:
    """The runs of a conversation."""
    return [bubble for run in runs for bubble in _render_run(run, info)]


def _render_run(run: StoredRun, info: ToolCallInfo) -> Iterator[ChatMessage]:
    results = {each.call_id: each for each in run.messages if isinstance(each, ToolResult)}
    for message in run.messages:
        match message:
            case User(content):
                yield render_question(content)
            case Assistant():
                yield from _render_assistant(message)
                for call in message.calls:
                    key = (run.id, call.id)
                    waits = key in info.waiting
                    result = None if waits else results.get(call.id)
                    if key not in info.hidden:
                        yield render_tool_call(
                            ToolCallView(call, result, info.seconds.get(key), waits)
                        )
            case _:
                pass


def _render_assistant(message: Assistant) -> Iterator[ChatMessage]:
    if message.thinking.strip():
        yield render_thinking(message.thinking)
    if message.text.strip():
        yield render_answer(message.text)


def render_question(content: Content) -> ChatMessage:
    """What a person said, to the letter."""
    if isinstance(content, str):
        return {"role": "user", "content": markdown.render_text(content)}
    parts = (
        _render_image(p) if isinstance(p, Image) else markdown.render_text(p.text) for p in content
    )
    return {"role": "user", "content": markdown.join(*parts)}


def _render_image(image: Image) -> str:
    if markdown.INLINE_IMAGE.fullmatch(image.url):
        return markdown.render_image(image.url)
    return markdown.render_text(f"[image: {image.url:.200}]")


def render_answer(text: str) -> ChatMessage:
    """What the model said."""
    return {"role": "assistant", "content": markdown.render_markdown(text)}


def render_thinking(text: str, *, status: str = "done") -> ChatMessage:
    """What the model thought, folded once it is done."""
    metadata: JSON = {"title": "Thinking", "status": status}
    return {"role": "assistant", "content": markdown.render_markdown(text), "metadata": metadata}


def render_waiting() -> ChatMessage:
    """The model was asked, and has said nothing yet."""
    return {
        "role": "assistant",
        "content": "",
        "metadata": {"title": "The model is asked", "status": "pending"},
    }


def render_tool_call(view: ToolCallView) -> ChatMessage:
    """A tool call, with its arguments and its result."""
    ended = view.result is not None or view.is_waiting
    metadata: dict[str, JSON] = {
        "title": markdown.render_text(f"{_get_icon(view)} {format_call(view.call, _TITLE_LENGTH)}"),
        "status": "done" if ended else "pending",
        "id": "/".join(view.path) or view.call.id,
    }
    if len(view.path) > 1:
        metadata["parent_id"] = "/".join(view.path[:-1])
    if note := _format_status(view):
        metadata["log"] = strip_control_characters(note)
    return {
        "role": "assistant",
        "content": markdown.join(*_render_parts(view)),
        "metadata": metadata,
    }


def _get_icon(view: ToolCallView) -> str:
    if view.is_waiting:
        return "‖"
    if view.result is None:
        return "…"
    return "✗" if view.result.is_error else "✓"


def _format_status(view: ToolCallView) -> str:
    words = [
        "waits for you" if view.is_waiting else "",
        "repaired" if view.repaired else "",
        "" if view.seconds is None else format_duration(view.seconds),
    ]
    return ", ".join(filter(None, words))


def format_duration(seconds: float) -> str:
    """A time as people read it."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "under 1 ms"


def _render_parts(view: ToolCallView) -> Iterator[str]:
    yield markdown.render_text("Arguments")
    yield markdown.render_code(_format_json(view.call.arguments))
    if view.repaired:
        yield markdown.render_text(f"Repaired: {view.repaired}")
    if view.result is not None:
        yield markdown.render_text("Error" if view.result.is_error else "Result")
        yield markdown.render_code(truncate_text(view.result.text, _MAX_RESULT_CHARS))


def _format_json(arguments: str) -> str:
    """JSON text with a line for each member, if that says the same."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except ValueError:
        return arguments


def render_note(text: str) -> ChatMessage:
    """What is to be said of the conversation by neither side, such as what went wrong."""
    return {"role": "assistant", "content": markdown.render_text(f"⚠ {text}")}
