"""An agent as a page in a browser: an ASGI application."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections import OrderedDict, defaultdict
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from agentcall.agent import Agent
from agentcall.errors import SessionError, UsageError
from agentcall.gatekeeper import USER, App, Receive, Scope, Send, Terms
from agentcall.picture import LARGEST
from agentcall.session import SQLiteSession, Store, default_path
from agentcall.session.export import FORMS
from agentcall.talk import Talk, new_session
from agentcall.web.door import Door
from agentcall.web.owned import Owned
from agentcall.web.page import Page, page_of
from agentcall.web.tab import Tab, Times
from agentcall.web.uploads import Uploads, folder

BODY = LARGEST + 2**20
"""Bytes of a request at most: an image, and what comes with it."""

_TABS = 1000
_HOUR = 3600
_KINDS = {"md": "text/markdown", "json": "application/json"}


class WebChat:
    """Serves a chat with an agent.

    terms: who may come in. Without keys everybody is the owner, whose sessions these are; with keys
        the sessions of each are kept in a file of their own, named by whom the key was given to.
    path: the owner's file of sessions; None is that of the command line.
    running, waiting: how many runs go on at the same time, and how many may wait.
    """

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: of any output and deps
        *,
        terms: Terms | None = None,
        path: str | Path | None = None,
        running: int = 32,
        waiting: int = 256,
    ) -> None:
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        folder()
        self._uploads = Uploads()
        self._agent = agent
        self._path = default_path() if path is None else Path(path)
        self._tabs: OrderedDict[tuple[str, str], Tab] = OrderedDict()
        self._times: defaultdict[str, Times] = defaultdict(Times)
        page = page_of(agent.name, self._tab, running=running)
        page.blocks.queue(max_size=waiting, api_open=False)
        terms = replace(terms or Terms(), limit=BODY, pages=frozenset({"/"}))
        self._door = Door(Owned(self._application(page), self._uploads), terms)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._door(scope, receive, send)

    async def leave(self) -> None:
        """Stops what runs and ends the connections of all pages, as the server is about to end."""
        self._door.end_streams()
        await asyncio.gather(*(tab.leave() for tab in self._tabs.values()))

    def _application(self, page: Page) -> App:
        fastapi: Any = import_module("fastapi")  # Any: an optional package
        gradio: Any = import_module("gradio")  # Any: as above
        app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.add_route("/export", self._export)
        app.add_route("/chat.js", _script)
        mounted: App = gradio.mount_gradio_app(
            app,
            page.blocks,
            path="/",
            footer_links=[],
            run_history=False,
            show_error=False,
            max_file_size=LARGEST,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=_theme(),
            css=_own("chat.css"),
            head='<script src="chat.js" defer></script>',
        )
        # a page that is mounted counts as not launched, and Gradio 6.31 then lets requests name any
        # file of this machine as one that was uploaded
        page.blocks.has_launched = True
        return mounted

    def _tab(self, request: Any) -> Tab:  # Any: Gradio's request
        """The tab that a request comes from; a new one goes on with the session it names."""
        user = str(request.request.scope.get(USER, ""))
        key = (user, str(request.session_hash))
        if key not in self._tabs:
            session = self._session(user, request.query_params.get("session"))
            images = partial(self._uploads.image, user)
            self._tabs[key] = Tab(Talk(self._agent, session), self._times[user], images)
            while len(self._tabs) > _TABS:
                self._tabs.popitem(last=False)
        self._tabs.move_to_end(key)
        return self._tabs[key]

    def _session(self, user: str, name: str | None) -> SQLiteSession:
        path = self._file(user)
        if name:
            try:
                return SQLiteSession(name, path, wait=0)
            except UsageError:  # no name of a session: somebody wrote it into the address
                pass
        return new_session(SQLiteSession("new", path, wait=0))

    def _file(self, user: str) -> Path:
        """Where the sessions of a user are kept."""
        if not user:
            return self._path
        plain = re.sub(r"\W+", "-", user)[:40]
        mark = hashlib.sha256(user.encode()).hexdigest()[:8]
        return self._path.with_name(f"{self._path.stem}-{plain}-{mark}{self._path.suffix}")

    async def _export(self, request: Request) -> Response:
        session, form = (request.query_params.get(name, "") for name in ("session", "as"))
        if form not in _KINDS:
            return PlainTextResponse(f"as={form!r:.40} is none of {', '.join(_KINDS)}", 400)
        store = Store(self._file(str(request.scope.get(USER, ""))))
        try:
            kept = await run_in_threadpool(store.show, session)
        except (SessionError, UsageError) as error:
            return PlainTextResponse(str(error), 404)
        name = quote(f"{session}.{form}", safe="")
        return Response(
            FORMS[form](kept),
            media_type=f"{_KINDS[form]}; charset=utf-8",
            headers={"content-disposition": f"attachment; filename*=UTF-8''{name}"},
        )


async def _script(request: Request) -> Response:
    return Response(_own("chat.js"), media_type="text/javascript")


@cache
def _own(name: str) -> str:
    return (files("agentcall.web") / name).read_text("utf-8")


def _theme() -> Any:  # Any: Gradio's
    """Gradio's look with the fonts of the reader's machine."""
    gradio: Any = import_module("gradio")
    return gradio.themes.Soft(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
