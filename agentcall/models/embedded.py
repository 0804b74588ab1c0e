"""`EmbeddedChat`: the embedded model on this machine's CPU, started by its first request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import replace

from agentcall.dialects.constrained import ConstrainedDialect
from agentcall.dialects.dialect import PromptSpec
from agentcall.errors import MissingExtra, ModelUnreachable, UnknownModel, UsageError
from agentcall.models.http import HTTPEndpoint
from agentcall.models.http_chat import HTTPChat
from agentcall.models.local_servers import find_embedded_server
from agentcall.models.model import ModelRequest, ResponseEvent, ResponseProgress
from agentcall.settings import ModelSettings
from agentcall_server.embedded_server import require_runtime
from agentcall_server.errors import BadValue, RuntimeMissing, ServerError, UnknownModelName
from agentcall_server.leases import LeaseLost
from agentcall_server.shared_server import SharedServer, find_shared

EMBEDDED_SETTINGS = ModelSettings(
    temperature=0.0, max_tokens=1024, extra_body={"return_progress": True}
)
"""Replaced by those of an agent or a run (docs/settings.md): a small model calls tools most
reliably at temperature 0, and may write without an end."""
_POLL_SECONDS = 0.2
_MAX_PROMPTS = 64


class EmbeddedChat:
    """The embedded model; a server of it that `agentcall server start` launched is preferred.

    Before the first request with new instructions and tools, the server reads them, or loads what
    it computed when it read them before (see `agentcall_server.prompt_states`). Answers are always
    streamed, since llama.cpp notices only on a stream that a client has left.

    Raises MissingExtra if nothing can run it, UnknownModel for a name that is not in the catalogue.
    """

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._dialect = ConstrainedDialect()
        self._chat: HTTPChat | None = None
        self._is_launched = False
        self._read_prompts: set[tuple[int | None, str]] = set()
        self._lock = threading.Lock()
        if find_embedded_server(name) is None:
            self._find_server()
            try:
                require_runtime()
            except RuntimeMissing as error:
                raise MissingExtra(str(error)) from None

    @property
    def inner_model(self) -> HTTPChat | None:
        """The model on the server; None before it was started."""
        return self._chat

    @property
    def secrets(self) -> Collection[str]:
        """The key of the server."""
        return () if self._chat is None else self._chat.secrets

    async def find_context_window(self) -> int | None:
        """Return the window in tokens; None before the server was started."""
        return None if self._chat is None else await self._chat.find_context_window()

    def prepare(self, prompt: PromptSpec) -> None:
        """Start the server and have it read the prompt, so that the first answer comes sooner.

        Blocks. Raises what `ask` raises.
        """
        self._start()
        self._read_prompt(prompt, lambda _: None)

    async def ask(self, request: ModelRequest) -> AsyncIterator[ResponseEvent]:
        """Yield what is done before the answer, and its parts. Raises ModelError."""
        if not self._is_running:
            async for progress in self._watch_start():
                yield progress
        async for progress in self._watch_reading(request.prompt):
            yield progress
        chat = self._chat
        if chat is not None:
            async for part in chat.ask(replace(request, stream=True)):
                yield part

    @property
    def _is_running(self) -> bool:
        if self._chat is None:
            return False
        return self._is_launched or self._find_server().is_running

    def _find_server(self) -> SharedServer:
        try:
            return find_shared(self._name)
        except UnknownModelName as error:
            raise UnknownModel(str(error)) from error
        except BadValue as error:
            raise UsageError(str(error)) from error

    def _start(self) -> None:
        """Start the server, or join a running one."""
        with self._lock:
            launched = find_embedded_server(self._name)
            if launched is not None:
                url, key, model = launched.url, launched.api_key, launched.model
            else:
                server = self._find_server()
                try:
                    server.start()
                except RuntimeMissing as error:
                    raise MissingExtra(str(error)) from error
                except ServerError as error:
                    raise ModelUnreachable(str(error)) from error
                url, key, model = server.url, server.api_key, server.model
            self._is_launched = launched is not None
            chat = self._chat
            if chat is None or chat.endpoint.url != url or chat.endpoint.api_key != key:
                self._chat = HTTPChat(
                    HTTPEndpoint(url, key),
                    model,
                    dialect=self._dialect,
                    settings=EMBEDDED_SETTINGS,
                )

    async def _watch_start(self) -> AsyncIterator[ResponseProgress]:
        """Start the server in a thread: that takes seconds, and a download minutes."""
        server, last = self._find_server(), None
        start = asyncio.ensure_future(asyncio.to_thread(self._start))
        while not (await asyncio.wait([start], timeout=_POLL_SECONDS))[0]:
            progress = _describe_start(server)
            if progress is not None and progress != last:
                last = progress
                yield progress
        await start

    async def _watch_reading(self, prompt: PromptSpec) -> AsyncIterator[ResponseProgress]:
        if self._is_read(prompt):
            return
        steps: deque[tuple[int, int]] = deque()
        reading = asyncio.ensure_future(asyncio.to_thread(self._read_prompt, prompt, steps.append))
        while not (await asyncio.wait([reading], timeout=_POLL_SECONDS))[0]:
            while steps:
                yield ResponseProgress("reading", *steps.popleft())
        await reading

    def _is_read(self, prompt: PromptSpec) -> bool:
        return self._is_launched or self._identify_prompt(prompt) in self._read_prompts

    def _identify_prompt(self, prompt: PromptSpec) -> tuple[int | None, str]:
        messages = self._dialect.create_prelude(prompt, "auto").messages
        return self._find_server().pid, json.dumps(messages)

    def _read_prompt(self, prompt: PromptSpec, report: Callable[[tuple[int, int]], None]) -> None:
        """Have the server read the messages that all conversations with the prompt begin with."""
        key = self._identify_prompt(prompt)
        messages = self._dialect.create_prelude(prompt, "auto").messages
        if not messages or self._is_read(prompt):
            return
        try:
            for step in self._find_server().read_prompt(messages):
                report(step)
        except LeaseLost:
            return  # the request itself finds out
        if len(self._read_prompts) >= _MAX_PROMPTS:
            self._read_prompts.clear()
        self._read_prompts.add(key)


def _describe_start(server: SharedServer) -> ResponseProgress | None:
    if server.phase == "fetching" and server.fetched[0]:
        done, total = server.fetched
        return ResponseProgress("fetching", done, total or 0)
    return ResponseProgress("loading") if server.phase == "loading" else None
