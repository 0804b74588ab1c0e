"""A conversation as messages of `gr.Chatbot`; each tool call is an accordion.

A message has `role`, `content` (HTML of the `markdown` module), and for an accordion `metadata`:
`title` (HTML, too), `log` (a plain note after the title), `status` ("pending" or "done"), `id`, and
`parent_id` if it is inside another. Source: `gr.ChatMessage`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from agentcall.dialects.constrained.call_expression import is_plan
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
    """A tool call and its progress.

    is_waiting: whether it waits for a decision.
    repaired: the repairs of its arguments.
    path: the ids of the calls that it is nested in, and its own.
    progress: what the tool reported last, while it runs.
    """

    call: ToolCall
    result: ToolResult | None = None
    seconds: float | None = None
    is_waiting: bool = False
    repaired: str = ""
    path: tuple[str, ...] = ()
    progress: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallInfo:
    """Facts about calls that their messages do not have, by run id and call id.

    waiting: the calls that wait for a decision.
    hidden: the calls that are not rendered.
    """

    waiting: Collection[tuple[str, str]] = ()
    hidden: Collection[tuple[str, str]] = ()


def render_history(runs: Iterable[StoredRun], info: ToolCallInfo) -> list[ChatMessage]:
    """Render the runs of a conversation."""
    return [message for run in runs for message in _render_run(run, info)]


def _render_run(run: StoredRun, info: ToolCallInfo) -> Iterator[ChatMessage]:
    results = {item.call_id: item for item in run.messages if isinstance(item, ToolResult)}
    for message in run.messages:
        match message:
            case User(content):
                yield render_question(content)
            case Assistant():
                if message.thinking.strip():
                    yield render_thinking(message.thinking)
                if message.text.strip():
                    yield render_answer(message.text)
                for call in message.calls:
                    key = (run.id, call.id)
                    is_waiting = key in info.waiting
                    result = None if is_waiting else results.get(call.id)
                    if key not in info.hidden:
                        seconds = None if result is None else result.seconds
                        yield render_tool_call(ToolCallView(call, result, seconds, is_waiting))
            case _:
                pass


def render_question(content: Content) -> ChatMessage:
    """Render a question of the user, verbatim."""
    if isinstance(content, str):
        return {"role": "user", "content": markdown.render_text(content)}
    parts = (
        _render_image(p) if isinstance(p, Image) else markdown.render_text(p.text) for p in content
    )
    return {"role": "user", "content": markdown.join(*parts)}


def _render_image(image: Image) -> str:
    if markdown.INLINE_IMAGE.fullmatch(image.url):
        return markdown.render_image(image.url)
    return markdown.render_text(f"[image: {image.description}]")


def render_answer(text: str) -> ChatMessage:
    """Render an answer of the model."""
    return {"role": "assistant", "content": markdown.render_markdown(text)}


def render_thinking(text: str, *, status: str = "done") -> ChatMessage:
    """Render the model's thinking, which Gradio folds once it is done."""
    title = "Plan" if is_plan(text) else "Thinking"
    metadata: JSON = {"title": title, "status": status}
    return {"role": "assistant", "content": markdown.render_markdown(text), "metadata": metadata}


def render_waiting(progress: str = "") -> ChatMessage:
    """Render a placeholder until the model begins to answer, with what it does until then."""
    title = f"Model: {progress}" if progress else "Waiting for the model"
    return {
        "role": "assistant",
        "content": "",
        "metadata": {"title": title, "status": "pending"},
    }


def render_tool_call(view: ToolCallView) -> ChatMessage:
    """Render a tool call with its arguments and result."""
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
    notes = [
        "waits for you" if view.is_waiting else "",
        view.progress,
        "repaired" if view.repaired else "",
        "" if view.seconds is None else format_duration(view.seconds),
    ]
    return ", ".join(filter(None, notes))


def format_duration(seconds: float) -> str:
    """Format a duration for people."""
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
        yield from map(_render_image, view.result.images)


def _format_json(arguments: str) -> str:
    """Return the JSON text with a line for each member; other text unchanged."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except ValueError:
        return arguments


def render_note(text: str) -> ChatMessage:
    """Render a note about the conversation, such as an error."""
    return {"role": "assistant", "content": markdown.render_text(f"⚠ {text}")}
