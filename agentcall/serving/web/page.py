"""The page as Gradio components: their layout, their event handlers, and their updates.

Gradio takes a handler's updates as a list, in the order of `ChatPage.outputs`; `_render_all` has
the same order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlencode

from agentcall.approvals import Approved, Denied
from agentcall.display import format_full_call, to_single_line
from agentcall.errors import UsageError
from agentcall.messages import Text
from agentcall.serving.conversation import PendingApproval
from agentcall.serving.web import markdown
from agentcall.serving.web.chat_tab import ChatTab
from agentcall.serving.web.view import WebChatView
from agentcall.sessions import SessionSummary

gr: Any = import_module("gradio")  # Any: an optional package with few types
ComponentUpdate: TypeAlias = Any

PLACEHOLDER = "Ask something. Enter sends, Shift-Enter begins a new line."
EDITING_PLACEHOLDER = "What you send now replaces the last question and everything after it."
_LABEL_LENGTH = 60
_APPROVAL_QUESTION = "<p><strong>Allow this call?</strong></p>"


Component: TypeAlias = Any
GradioRequest: TypeAlias = Any
Views: TypeAlias = AsyncGenerator[WebChatView, None]
Handler = TypeVar("Handler", bound=Callable[..., Any])  # Any: Gradio's values


@dataclass(frozen=True, slots=True)
class SidebarComponents:
    """The list of saved conversations."""

    new: Component
    sessions: Component


@dataclass(frozen=True, slots=True)
class ApprovalComponents:
    """The panel with a call that waits for a decision."""

    panel: Component
    call: Component
    reason: Component
    approve: Component
    always: Component
    deny: Component


@dataclass(frozen=True, slots=True)
class FooterComponents:
    """The buttons and texts below the input box."""

    retry: Component
    edit: Component
    undo: Component
    markdown: Component
    json: Component
    usage: Component
    session: Component


@dataclass(frozen=True, slots=True)
class ChatPage:
    """All components of the page; `blocks` is Gradio's application."""

    blocks: Component
    sidebar: SidebarComponents
    chat: Component
    approval: ApprovalComponents
    box: Component
    footer: FooterComponents

    @property
    def outputs(self) -> list[Component]:
        """The components that handlers update, in the order of `_render_all`."""
        side, approval, foot = self.sidebar, self.approval, self.footer
        return [
            self.chat,
            self.box,
            side.sessions,
            *(approval.panel, approval.call, approval.reason),
            *(foot.retry, foot.edit, foot.undo, foot.markdown, foot.json, foot.usage, foot.session),
        ]


def build_page(
    name: str, find_tab: Callable[[GradioRequest], ChatTab], *, running: int
) -> ChatPage:
    """Build the page of an agent called `name`.

    find_tab: returns the tab of a request.
    running: how many runs may execute at the same time.
    """
    with gr.Blocks(title=name, analytics_enabled=False, fill_height=True) as blocks:
        page = ChatPage(
            blocks,
            _build_sidebar(name),
            _build_chat(),
            _build_approval(),
            _build_box(),
            _build_footer(),
        )
        _connect_events(page, find_tab, running)
    return page


def _build_sidebar(name: str) -> SidebarComponents:
    with gr.Sidebar(width=280):
        gr.Markdown(markdown.render_text(name), elem_id="name")
        new = gr.Button("New chat", elem_id="new")
        sessions = gr.Radio(show_label=False, container=False, elem_id="sessions")
    return SidebarComponents(new, sessions)


def _build_chat() -> Component:
    return gr.Chatbot(
        show_label=False,
        scale=1,
        min_height=240,
        buttons=["copy"],
        feedback_options=None,
        render_markdown=False,  # it gets HTML
        allow_tags=False,
        placeholder="### What can I do for you?",
        elem_id="chat",
    )


def _build_approval() -> ApprovalComponents:
    with gr.Column(visible=False, variant="panel", elem_id="approval") as panel:
        call = gr.Markdown(elem_id="call")
        reason = gr.Textbox(
            placeholder="Why not? The model reads this if you deny.",
            show_label=False,
            container=False,
            max_length=2000,
            elem_id="reason",
        )
        with gr.Row():
            approve = gr.Button("Approve once", variant="primary", elem_id="approve")
            always = gr.Button("Approve always", elem_id="always")
            deny = gr.Button("Deny", variant="stop", elem_id="deny")
    return ApprovalComponents(panel, call, reason, approve, always, deny)


def _build_box() -> Component:
    return gr.MultimodalTextbox(
        placeholder=PLACEHOLDER,
        show_label=False,
        autofocus=True,
        file_count="multiple",
        file_types=["image"],
        max_plain_text_length=10**9,  # pasted text stays text, however long
        elem_id="box",
    )


def _build_footer() -> FooterComponents:
    labels = ("Retry", "Edit", "Undo", "Export Markdown", "Export JSON")
    with gr.Row(elem_id="tools"):
        retry, edit, undo, markdown, json = (
            gr.Button(label, size="sm", min_width=60, elem_id=label.lower().replace(" ", "-"))
            for label in labels
        )
    with gr.Row(elem_id="foot"):
        usage, session = gr.Markdown(elem_id="usage"), gr.Markdown(elem_id="session")
    return FooterComponents(retry, edit, undo, markdown, json, usage, session)


def _connect_events(
    page: ChatPage, find_tab: Callable[[GradioRequest], ChatTab], running: int
) -> None:
    """Attach the handlers to the components."""

    def on(
        event: Component, action: Callable[..., Views], *inputs: Component, group: str | None = None
    ) -> None:
        event(
            _make_handler(action, find_tab),
            list(inputs),
            page.outputs,
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=running if group else None,
            concurrency_id=group,
        )

    async def leave(request: GradioRequest) -> None:
        await find_tab(request).stop_runs()

    page.blocks.unload(_inject_request(leave))
    box, approval, foot, side = page.box, page.approval, page.footer, page.sidebar
    on(page.blocks.load, ChatTab.show)
    on(box.submit, _ask, box, group="runs")
    on(foot.retry.click, ChatTab.retry, group="runs")
    on(approval.approve.click, _approve, group="runs")
    on(approval.always.click, _approve_always, group="runs")
    on(approval.deny.click, _deny, approval.reason, group="runs")
    on(box.stop, ChatTab.stop)
    on(foot.edit.click, ChatTab.edit)
    on(foot.undo.click, ChatTab.undo)
    on(side.new.click, ChatTab.start_new)
    on(side.sessions.input, ChatTab.open_session, side.sessions)


def _make_handler(
    action: Callable[..., Views], find_tab: Callable[[GradioRequest], ChatTab]
) -> Callable[..., Any]:
    """Return the action as a Gradio handler, which gets the request as its first argument."""

    async def handler(
        request: GradioRequest,
        *values: object,
    ) -> AsyncGenerator[list[Any], None]:  # Any: Gradio's updates
        before = None
        async with aclosing(action(find_tab(request), *values)) as views:
            async for view in views:
                yield render_updates(view, before)
                before = view

    return _inject_request(handler)


def _inject_request(handler: Handler) -> Handler:
    """Annotate the handler so that Gradio passes the request as its first argument."""
    handler.__annotations__ = {"request": gr.Request}
    return handler


async def _ask(tab: ChatTab, value: dict[str, Any]) -> Views:  # Any: a text, and paths of files
    text = str(value.get("text") or "")
    try:
        images = [tab.load_image(path) for path in value.get("files") or ()]
    except UsageError as error:
        views = tab.show_error(str(error))
    else:
        views = tab.ask([*images, *([Text(text)] if text.strip() else [])])
    async with aclosing(views):
        async for view in views:
            yield view


def _approve(tab: ChatTab) -> Views:
    return tab.decide(Approved())


def _approve_always(tab: ChatTab) -> Views:
    return tab.decide(Approved("tool"))


def _deny(tab: ChatTab, reason: str) -> Views:
    return tab.decide(Denied(reason.strip()))


def render_updates(view: WebChatView, before: WebChatView | None) -> list[ComponentUpdate]:
    """Return an update for each of `ChatPage.outputs`; those that have not changed are skipped."""
    if before is None:
        return _render_all(view)
    if view == before:
        return [gr.skip() for _ in _render_all(view)]
    pairs = zip(_render_all(view), _render_all(before), strict=True)
    return [gr.skip() if new == old else new for new, old in pairs]


def _render_all(view: WebChatView) -> list[ComponentUpdate]:
    is_idle = not view.is_running
    has_begun = is_idle and bool(view.bubbles)
    is_saved = view.session in {session.id for session in view.sessions}
    editing = "Cancel edit" if view.is_editing else "Edit"
    return [
        list(view.bubbles),
        _render_box(view),
        gr.update(
            choices=[(_format_label(session), session.id) for session in view.sessions],
            value=view.session if is_saved else None,
        ),
        gr.update(visible=view.waiting is not None),
        "" if view.waiting is None else _render_pending(view.waiting, view.more),
        gr.update() if view.waiting is None else gr.update(value=""),
        gr.update(interactive=has_begun),
        gr.update(interactive=has_begun, value=editing),
        gr.update(interactive=has_begun),
        gr.update(link=_build_export_link(view.session, "md"), interactive=is_saved),
        gr.update(link=_build_export_link(view.session, "json"), interactive=is_saved),
        markdown.render_text(view.usage) if view.usage else "",
        markdown.render_text(view.session),
    ]


def _render_box(view: WebChatView) -> ComponentUpdate:
    properties: dict[str, object] = {
        "placeholder": EDITING_PLACEHOLDER if view.is_editing else PLACEHOLDER,
        "submit_btn": not view.is_running,
        "stop_btn": view.is_running,
    }
    if view.draft is not None:
        properties["value"] = {"text": view.draft, "files": []}
    return gr.update(**properties)


def _format_label(session: SessionSummary) -> str:
    waits = "‖ " if session.waiting else ""
    return f"{waits}{to_single_line(session.title, _LABEL_LENGTH) or session.id}"


def _render_pending(pending: PendingApproval, more: int) -> str:
    """Render the call that the user decides about, in full and with invisible characters shown."""
    parts = [
        _APPROVAL_QUESTION,
        markdown.render_code(format_full_call(pending.call, pending.agent)),
    ]
    if pending.reason:
        parts.append(markdown.render_text(pending.reason))
    if more:
        parts.append(markdown.render_text(f"{more} more waiting."))
    return markdown.join(*parts)


def _build_export_link(session: str, format_name: str) -> str:
    return f"export?{urlencode({'session': session, 'as': format_name})}"
