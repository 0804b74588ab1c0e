"""Export a session as Markdown, JSON or a web page.

The page is self-contained: it has no script and loads nothing, which its content security policy
enforces. All text is escaped. Images are shown if they are in the message itself. Others are named,
as loading them would report to their server that the page was opened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from html import escape
from typing import TypeAlias

import orjson

from agentcall.errors import UsageError
from agentcall.messages import (
    JSON,
    Assistant,
    Image,
    Message,
    ToolCall,
    ToolResult,
    User,
    to_json,
    usage_to_json,
)
from agentcall.runtime.session import ChatSession, StoredRun
from agentcall.sessions.sqlite_session import SQLiteSession
from agentcall.sessions.store import StoredSession

Exporter: TypeAlias = Callable[[StoredSession], str]

_INLINE_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
section { border-top: 1px solid #ccc; margin-top: 2rem }
article { margin: 1rem 0; padding: .5rem 1rem; border-left: 4px solid #bbb }
article.user { border-color: #2563eb } article.assistant { border-color: #16a34a }
article.tool { border-color: #d97706; font-size: .9em } article.error { border-color: #dc2626 }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; color: #666 }
h3 { font-size: .8rem; margin: 0; color: #666 }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: inherit; margin: .3rem 0 }
pre.code { font: .85em ui-monospace, monospace } img { max-width: 100% }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #111 } }
""".strip()


def load_session(session: ChatSession) -> StoredSession:
    """Load a session for an exporter. Raises UsageError if it has not begun."""
    if isinstance(session, SQLiteSession):  # which also knows what compaction has left out
        return session.store.load_session(session.id)
    runs = session.history
    if not runs:
        raise UsageError(f"there is no session {session.id!r}")
    return StoredSession(session.id, runs[0].began, runs[-1].began, runs)


def export_json(session: StoredSession) -> str:
    """Return the session as JSON: `id`, `began`, `changed`, `compacted`, `runs` with `messages`.

    Messages have the form of OpenAI's chat completions; times are seconds since the epoch.
    """
    wire: dict[str, JSON] = {
        "id": session.id,
        "began": session.began,
        "changed": session.changed,
        "compacted": session.compacted,
        "head": [to_json(message) for message in session.head],
        "runs": [_dump_run(run) for run in session.runs],
    }
    return orjson.dumps(wire, option=orjson.OPT_INDENT_2).decode() + "\n"


def _dump_run(run: StoredRun) -> Mapping[str, JSON]:
    return {
        "id": run.id,
        "began": run.began,
        "agent": run.agent,
        "stop_reason": run.stop_reason,
        "usage": usage_to_json(run.usage),
        "messages": [to_json(message) for message in run.messages],
    }


def export_markdown(session: StoredSession) -> str:
    """Return the session as Markdown, with tool calls and results as code."""
    parts = [
        f"# {session.id}",
        *(part for run in session.runs for part in _render_run_markdown(run)),
    ]
    return "\n\n".join(parts) + "\n"


def _render_run_markdown(run: StoredRun) -> Iterator[str]:
    yield f"## {format_time(run.began)}, {run.agent}: {run.stop_reason}"
    for message in run.messages:
        yield f"### {_format_heading(message)}"
        match message:
            case ToolResult():
                yield fence_code(message.text)  # it describes the images
            case User(content) if not isinstance(content, str):
                yield from (_describe_image(p) if isinstance(p, Image) else p.text for p in content)
            case _ if message.text:
                yield message.text
            case _:
                pass
        if isinstance(message, Assistant):
            yield from (fence_code(_format_call(call)) for call in message.calls)


def fence_code(text: str, language: str = "") -> str:
    """Return the text in a code fence that is longer than any fence in the text."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def export_html(session: StoredSession) -> str:
    """Return the session as a self-contained web page."""
    title = escape(session.id)
    runs = "\n".join(_render_run_html(run) for run in session.runs)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html>\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{title}</h1>\n{runs}\n</body>\n</html>\n"
    )


def _render_run_html(run: StoredRun) -> str:
    heading = escape(f"{format_time(run.began)}, {run.agent}: {run.stop_reason}")
    articles = "\n".join(map(_render_message, run.messages))
    return f"<section>\n<h2>{heading}</h2>\n{articles}\n</section>"


def _render_message(message: Message) -> str:
    failed = isinstance(message, ToolResult) and message.is_error
    kind = f"{to_json(message)['role']}{' error' if failed else ''}"
    return (
        f'<article class="{kind}">\n<h3>{escape(_format_heading(message))}</h3>\n'
        f"{''.join(_render_body(message))}</article>"
    )


def _render_body(message: Message) -> Iterator[str]:
    if isinstance(message, User) and not isinstance(message.content, str):
        for part in message.content:
            yield _render_image(part) if isinstance(part, Image) else _render_text(part.text)
    elif message.text:
        yield _render_text(message.text, "code" if isinstance(message, ToolResult) else "")
    if isinstance(message, ToolResult):
        yield from map(_render_image, message.images)
    if isinstance(message, Assistant):
        yield from (_render_text(_format_call(call), "code") for call in message.calls)


def _render_text(text: str, kind: str = "") -> str:
    return f'<pre class="{kind}">{escape(text)}</pre>\n'


def _render_image(image: Image) -> str:
    if _INLINE_IMAGE.fullmatch(image.url):
        return f'<img alt="" src="{image.url}">\n'
    return _render_text(_describe_image(image))


def _describe_image(image: Image) -> str:
    return f"[image: {image.description}]"


def _format_heading(message: Message) -> str:
    if isinstance(message, ToolResult):
        return f"{message.name} {'failed' if message.is_error else 'gave'}"
    return str(to_json(message)["role"])


def _format_call(call: ToolCall) -> str:
    return f"{call.name} {call.arguments}"


def format_time(seconds: float) -> str:
    """Format a time in the zone of this machine."""
    moment = datetime.fromtimestamp(seconds, timezone.utc).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M")


EXPORTERS: Mapping[str, Exporter] = {
    "md": export_markdown,
    "json": export_json,
    "html": export_html,
}
"""Exporters by the suffix of a file name."""
