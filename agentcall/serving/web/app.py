"""A chat with an agent in the browser, as an ASGI application."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agentcall.agent import Agent
from agentcall.errors import MissingExtra, SessionError, UsageError
from agentcall.messages import MAX_IMAGE_BYTES
from agentcall.serving.conversation import Conversation, new_session
from agentcall.serving.http_security import (
    USER_SCOPE_KEY,
    AccessPolicy,
    ASGIApp,
    Receive,
    Scope,
    Send,
)
from agentcall.sessions import ChatSession, SQLiteSession, default_path
from agentcall.sessions.export import EXPORTERS, load_session

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response

    from agentcall.serving.web.chat_tab import ChatTab
    from agentcall.serving.web.page import ChatPage, build_page
    from agentcall.serving.web.security import UserIsolationMiddleware, WebSecurityMiddleware
    from agentcall.serving.web.uploads import Uploads, get_upload_folder
except ModuleNotFoundError as error:
    raise MissingExtra.for_feature("the web chat", "web", error) from None

MAX_BODY_BYTES = MAX_IMAGE_BYTES + 2**20
"""The largest request in bytes: an image and the form around it."""

_MAX_TABS = 1000
_EXPORT_TYPES = {"md": "text/markdown", "json": "application/json"}


class WebChat:
    """Serves a chat with an agent.

    access: which requests are accepted. Without keys all users share the owner's sessions. With
        keys each user's sessions are in a separate file, named after the user.
    path: the owner's session file; None is the file of the command line.
    sessions: in place of files: returns a session in the store of the user of this name (""
        is the owner); the session need not exist yet.
    running, waiting: how many runs may execute at the same time, and how many may wait.
    """

    def __init__(
        self,
        agent: Agent[Any, Any],  # Any: of any output and deps
        *,
        access: AccessPolicy | None = None,
        path: str | Path | None = None,
        sessions: Callable[[str], ChatSession] | None = None,
        running: int = 32,
        waiting: int = 256,
    ) -> None:
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        get_upload_folder()
        self._uploads = Uploads()
        self._agent = agent
        self._path = default_path() if path is None else Path(path)
        self._get_session = sessions or self._create_session
        self._tabs: OrderedDict[tuple[str, str], ChatTab] = OrderedDict()
        page = build_page(agent.name, self._find_tab, running=running)
        page.blocks.queue(max_size=waiting, api_open=False)
        access = replace(access or AccessPolicy(), limit=MAX_BODY_BYTES, pages=frozenset({"/"}))
        self._security = WebSecurityMiddleware(
            UserIsolationMiddleware(self._build_app(page), self._uploads), access
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._security(scope, receive, send)

    async def shutdown(self) -> None:
        """Stop all runs and end the streams of all pages. Called before the server stops."""
        self._security.end_streams()
        await asyncio.gather(*(tab.stop_runs() for tab in self._tabs.values()))

    def _build_app(self, page: ChatPage) -> ASGIApp:
        fastapi: Any = import_module("fastapi")  # Any: an optional package
        gradio: Any = import_module("gradio")
        app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        app.add_route("/export", self._export_session)
        app.add_route("/chat.js", _serve_script)
        mounted: ASGIApp = gradio.mount_gradio_app(
            app,
            page.blocks,
            path="/",
            footer_links=[],
            run_history=False,
            show_error=False,
            max_file_size=MAX_IMAGE_BYTES,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=_make_theme(),
            css=_read_asset("chat.css"),
            head='<script src="chat.js" defer></script>',
        )
        # Gradio 6.31 takes a mounted page for one that isn't launched, and then lets a request
        # name any file of this machine as an uploaded one.
        page.blocks.has_launched = True
        return mounted

    def _find_tab(self, request: Any) -> ChatTab:  # Any: Gradio's request
        """Return the tab of a request; a new tab continues the session that its URL names."""
        user = str(request.request.scope.get(USER_SCOPE_KEY, ""))
        key = (user, str(request.session_hash))
        if key not in self._tabs:
            session = self._open_session(user, request.query_params.get("session"))
            load_image = partial(self._uploads.load_image, user)
            self._tabs[key] = ChatTab(Conversation(self._agent, session), load_image)
            while len(self._tabs) > _MAX_TABS:
                self._tabs.popitem(last=False)
        self._tabs.move_to_end(key)
        return self._tabs[key]

    def _open_session(self, user: str, name: str | None) -> ChatSession:
        session = self._get_session(user)
        if name:
            with suppress(UsageError):  # the address contains a name that is not valid
                return session.open(name)
        return new_session(session)

    def _create_session(self, user: str) -> SQLiteSession:
        return SQLiteSession("new", self._get_path(user), wait=0)

    def _get_path(self, user: str) -> Path:
        """Return the session file of a user."""
        if not user:
            return self._path
        slug = re.sub(r"\W+", "-", user)[:40]
        digest = hashlib.sha256(user.encode()).hexdigest()[:8]  # two users may have one slug
        return self._path.with_name(f"{self._path.stem}-{slug}-{digest}{self._path.suffix}")

    async def _export_session(self, request: Request) -> Response:
        session, format_name = (request.query_params.get(name, "") for name in ("session", "as"))
        if format_name not in _EXPORT_TYPES:
            return PlainTextResponse(
                f"as={format_name!r:.40} is not one of {', '.join(_EXPORT_TYPES)}", 400
            )
        user = str(request.scope.get(USER_SCOPE_KEY, ""))
        try:
            opened = self._get_session(user).open(session)
            stored = await run_in_threadpool(load_session, opened)
        except (SessionError, UsageError) as error:
            return PlainTextResponse(str(error), 404)
        filename = quote(f"{session}.{format_name}", safe="")
        return Response(
            EXPORTERS[format_name](stored),
            media_type=f"{_EXPORT_TYPES[format_name]}; charset=utf-8",
            headers={"content-disposition": f"attachment; filename*=UTF-8''{filename}"},
        )


async def _serve_script(request: Request) -> Response:
    return Response(_read_asset("chat.js"), media_type="text/javascript")


@cache
def _read_asset(name: str) -> str:
    return (files("agentcall.serving.web") / name).read_text("utf-8")


def _make_theme() -> Any:  # Any: Gradio's
    """Return Gradio's theme with the fonts of the user's system."""
    gradio: Any = import_module("gradio")
    return gradio.themes.Soft(
        primary_hue="blue",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
