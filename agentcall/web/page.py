"""The page: Gradio's components, and what each of them brings about."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeAlias, TypeVar

from agentcall.approval import Approved, Denied
from agentcall.errors import UsageError
from agentcall.messages import Text
from agentcall.web import markup
from agentcall.web.shown import PLACEHOLDER, shown
from agentcall.web.tab import Tab
from agentcall.web.view import View

gr: Any = import_module("gradio")  # Any: an optional package, few of whose types are told
Component: TypeAlias = Any
Request: TypeAlias = Any
Views: TypeAlias = AsyncGenerator[View, None]
Handler = TypeVar("Handler", bound=Callable[..., Any])  # Any: whatever Gradio makes of it


@dataclass(frozen=True, slots=True)
class Side:
    """The conversations that are kept."""

    new: Component
    sessions: Component


@dataclass(frozen=True, slots=True)
class Approval:
    """A call that waits for a person."""

    panel: Component
    call: Component
    reason: Component
    approve: Component
    always: Component
    deny: Component


@dataclass(frozen=True, slots=True)
class Foot:
    """What stands below the box for words."""

    retry: Component
    edit: Component
    undo: Component
    markdown: Component
    json: Component
    usage: Component
    session: Component


@dataclass(frozen=True, slots=True)
class Page:
    """The page of an agent of this name, as Gradio's `blocks`."""

    blocks: Component
    side: Side
    chat: Component
    approval: Approval
    box: Component
    foot: Foot

    @property
    def outputs(self) -> list[Component]:
        """The components that change, in the order of `shown`."""
        side, approval, foot = self.side, self.approval, self.foot
        return [
            self.chat,
            self.box,
            side.sessions,
            *(approval.panel, approval.call, approval.reason),
            *(foot.retry, foot.edit, foot.undo, foot.markdown, foot.json, foot.usage, foot.session),
        ]


def page_of(name: str, find: Callable[[Request], Tab], *, running: int) -> Page:
    """The page of an agent of this name.

    find: the tab that a request comes from. running: how many runs go on at the same time.
    """
    with gr.Blocks(title=name, analytics_enabled=False, fill_height=True) as blocks:
        page = Page(blocks, _side(name), _chat(), _approval(), _box(), _foot())
        _wire(page, find, running)
    return page


def _side(name: str) -> Side:
    with gr.Sidebar(width=280):
        gr.Markdown(markup.render_text(name), elem_id="name")
        new = gr.Button("New chat", elem_id="new")
        sessions = gr.Radio(show_label=False, container=False, elem_id="sessions")
    return Side(new, sessions)


def _chat() -> Component:
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


def _approval() -> Approval:
    with gr.Column(visible=False, variant="panel", elem_id="approval") as panel:
        call = gr.Markdown(elem_id="call")
        reason = gr.Textbox(
            placeholder="Why not? The model is told when you deny.",
            show_label=False,
            container=False,
            max_length=2000,
            elem_id="reason",
        )
        with gr.Row():
            approve = gr.Button("Approve once", variant="primary", elem_id="approve")
            always = gr.Button("Approve always", elem_id="always")
            deny = gr.Button("Deny", variant="stop", elem_id="deny")
    return Approval(panel, call, reason, approve, always, deny)


def _box() -> Component:
    return gr.MultimodalTextbox(
        placeholder=PLACEHOLDER,
        show_label=False,
        autofocus=True,
        file_count="multiple",
        file_types=["image"],
        max_plain_text_length=10**9,  # a long text that is pasted stays a text
        elem_id="box",
    )


def _foot() -> Foot:
    words = ("Retry", "Edit", "Undo", "Export Markdown", "Export JSON")
    with gr.Row(elem_id="tools"):
        retry, edit, undo, markdown, json = (
            gr.Button(word, size="sm", min_width=60, elem_id=word.lower().replace(" ", "-"))
            for word in words
        )
    with gr.Row(elem_id="foot"):
        usage, session = gr.Markdown(elem_id="usage"), gr.Markdown(elem_id="session")
    return Foot(retry, edit, undo, markdown, json, usage, session)


def _wire(page: Page, find: Callable[[Request], Tab], running: int) -> None:
    """Says what each component brings about."""

    def on(
        event: Component, work: Callable[..., Views], *inputs: Component, group: str | None = None
    ) -> None:
        event(
            _handler(work, find),
            list(inputs),
            page.outputs,
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=running if group else None,
            concurrency_id=group,
        )

    async def leave(request: Request) -> None:
        await find(request).leave()

    page.blocks.unload(_with_request(leave))
    box, approval, foot, side = page.box, page.approval, page.foot, page.side
    on(page.blocks.load, Tab.look)
    on(box.submit, _ask, box, group="runs")
    on(foot.retry.click, Tab.retry, group="runs")
    on(approval.approve.click, _approve, group="runs")
    on(approval.always.click, _approve_always, group="runs")
    on(approval.deny.click, _deny, approval.reason, group="runs")
    on(box.stop, Tab.stop)
    on(foot.edit.click, Tab.edit)
    on(foot.undo.click, Tab.undo)
    on(side.new.click, Tab.begin)
    on(side.sessions.input, Tab.open, side.sessions)


def _handler(work: Callable[..., Views], find: Callable[[Request], Tab]) -> Callable[..., Any]:
    """The work as a function for Gradio, which is to give it the request first."""

    async def handler(
        request: Request,
        *given: object,
    ) -> AsyncGenerator[list[Any], None]:  # Any: Gradio's updates
        before = None
        async with aclosing(work(find(request), *given)) as views:
            async for view in views:
                yield shown(view, before)
                before = view

    return _with_request(handler)


def _with_request(handler: Handler) -> Handler:
    """The function, whose first argument Gradio is to give itself; it goes by annotations."""
    handler.__annotations__ = {"request": gr.Request}
    return handler


async def _ask(tab: Tab, given: dict[str, Any]) -> Views:  # Any: a text, and paths of files
    text = str(given.get("text") or "")
    try:
        images = [tab.image(path) for path in given.get("files") or ()]
    except UsageError as error:
        views = tab.tell(str(error))
    else:
        views = tab.ask([*images, *([Text(text)] if text.strip() else [])])
    async with aclosing(views):
        async for view in views:
            yield view


def _approve(tab: Tab) -> Views:
    return tab.decide(Approved())


def _approve_always(tab: Tab) -> Views:
    return tab.decide(Approved("tool"))


def _deny(tab: Tab, reason: str) -> Views:
    return tab.decide(Denied(reason.strip()))
