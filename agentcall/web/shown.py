"""What each component of the page shows of a view."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeAlias
from urllib.parse import urlencode

from agentcall.calltext import format_full_call
from agentcall.plaintext import to_single_line
from agentcall.session import SessionSummary
from agentcall.talk import PendingApproval
from agentcall.web import markup
from agentcall.web.view import WebChatView

gr: Any = import_module("gradio")  # Any: an optional package, few of whose types are told
ComponentUpdate: TypeAlias = Any

PLACEHOLDER = "Ask something. Enter sends, Shift-Enter begins a new line."
EDITING_PLACEHOLDER = (
    "What you send now takes the place of the last question and of all that came of it."
)
_LABEL_LENGTH = 60
_APPROVAL_QUESTION = "<p><strong>May this be done?</strong></p>"


def render_updates(view: WebChatView, before: WebChatView | None) -> list[ComponentUpdate]:
    """What each of `Page.outputs` is to show; what has not changed since is skipped."""
    if before is None:
        return _render_all(view)
    if view == before:
        return [gr.skip() for _ in _render_all(view)]
    pairs = zip(_render_all(view), _render_all(before), strict=True)
    return [gr.skip() if now == then else now for now, then in pairs]


def _render_all(view: WebChatView) -> list[ComponentUpdate]:
    is_idle = not view.is_running
    has_begun = is_idle and bool(view.bubbles)
    ids = {each.id for each in view.sessions}
    is_kept = view.session in ids
    editing = "Cancel edit" if view.is_editing else "Edit"
    return [
        list(view.bubbles),
        _render_box(view),
        gr.update(
            choices=[(_format_label(each), each.id) for each in view.sessions],
            value=view.session if is_kept else None,
        ),
        gr.update(visible=view.waiting is not None),
        "" if view.waiting is None else _render_pending(view.waiting, view.more),
        gr.update() if view.waiting is None else gr.update(value=""),
        gr.update(interactive=has_begun),
        gr.update(interactive=has_begun, value=editing),
        gr.update(interactive=has_begun),
        gr.update(link=_build_export_link(view.session, "md"), interactive=is_kept),
        gr.update(link=_build_export_link(view.session, "json"), interactive=is_kept),
        markup.render_text(view.usage) if view.usage else "",
        markup.render_text(view.session),
    ]


def _render_box(view: WebChatView) -> ComponentUpdate:
    looks: dict[str, object] = {
        "placeholder": EDITING_PLACEHOLDER if view.is_editing else PLACEHOLDER,
        "submit_btn": not view.is_running,
        "stop_btn": view.is_running,
    }
    if view.draft is not None:
        looks["value"] = {"text": view.draft, "files": []}
    return gr.update(**looks)


def _format_label(session: SessionSummary) -> str:
    waits = "‖ " if session.waiting else ""
    return f"{waits}{to_single_line(session.title, _LABEL_LENGTH) or session.id}"


def _render_pending(pending: PendingApproval, more: int) -> str:
    """A call that a person decides about: nothing of it is cut or invisible."""
    parts = [_APPROVAL_QUESTION, markup.render_code(format_full_call(pending.call, pending.agent))]
    if pending.reason:
        parts.append(markup.render_text(pending.reason))
    if more:
        parts.append(markup.render_text(f"{more} more behind it."))
    return markup.join(*parts)


def _build_export_link(session: str, form: str) -> str:
    return f"export?{urlencode({'session': session, 'as': form})}"
