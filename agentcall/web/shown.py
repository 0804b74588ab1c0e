"""What each component of the page shows of a view."""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeAlias
from urllib.parse import urlencode

from agentcall.calltext import whole_call
from agentcall.plaintext import line_of
from agentcall.session import Listed
from agentcall.talk import Waiting
from agentcall.web import markup
from agentcall.web.view import View

gr: Any = import_module("gradio")  # Any: an optional package, few of whose types are told
Update: TypeAlias = Any

PLACEHOLDER = "Ask something. Enter sends, Shift-Enter begins a new line."
EDITING = "What you send now takes the place of the last question and of all that came of it."
_LABEL = 60
_QUESTION = "<p><strong>May this be done?</strong></p>"


def shown(view: View, before: View | None) -> list[Update]:
    """What each of `Page.outputs` is to show; what has not changed since is skipped."""
    if before is None:
        return _all_shown(view)
    if view == before:
        return [gr.skip() for _ in _all_shown(view)]
    pairs = zip(_all_shown(view), _all_shown(before), strict=True)
    return [gr.skip() if now == then else now for now, then in pairs]


def _all_shown(view: View) -> list[Update]:
    is_idle = not view.is_running
    has_begun = is_idle and bool(view.bubbles)
    ids = {each.id for each in view.sessions}
    is_kept = view.session in ids
    editing = "Cancel edit" if view.is_editing else "Edit"
    return [
        list(view.bubbles),
        _box_shown(view),
        gr.update(
            choices=[(_label(each), each.id) for each in view.sessions],
            value=view.session if is_kept else None,
        ),
        gr.update(visible=view.waiting is not None),
        "" if view.waiting is None else _told(view.waiting, view.more),
        gr.update() if view.waiting is None else gr.update(value=""),
        gr.update(interactive=has_begun),
        gr.update(interactive=has_begun, value=editing),
        gr.update(interactive=has_begun),
        gr.update(link=_export(view.session, "md"), interactive=is_kept),
        gr.update(link=_export(view.session, "json"), interactive=is_kept),
        markup.render_text(view.usage) if view.usage else "",
        markup.render_text(view.session),
    ]


def _box_shown(view: View) -> Update:
    looks: dict[str, object] = {
        "placeholder": EDITING if view.is_editing else PLACEHOLDER,
        "submit_btn": not view.is_running,
        "stop_btn": view.is_running,
    }
    if view.draft is not None:
        looks["value"] = {"text": view.draft, "files": []}
    return gr.update(**looks)


def _label(listed: Listed) -> str:
    waits = "‖ " if listed.waiting else ""
    return f"{waits}{line_of(listed.title, _LABEL) or listed.id}"


def _told(waiting: Waiting, more: int) -> str:
    """A call that a person decides about: nothing of it is cut or invisible."""
    parts = [_QUESTION, markup.render_code(whole_call(waiting.call, waiting.asked_by))]
    if waiting.reason:
        parts.append(markup.render_text(waiting.reason))
    if more:
        parts.append(markup.render_text(f"{more} more behind it."))
    return markup.join(*parts)


def _export(session: str, form: str) -> str:
    return f"export?{urlencode({'session': session, 'as': form})}"
