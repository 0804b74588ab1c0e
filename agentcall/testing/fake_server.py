"""`FakeServer`: an HTTP server on loopback that plays a script, faults included.

`ServerProfile` has what does not depend on the script: pages, context window, support of tools.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from typing_extensions import Self, TypedDict, Unpack

from agentcall.errors import UsageError
from agentcall.models.adaptations import forget_server
from agentcall.testing.chat_rules import ChatRules
from agentcall.testing.faults import OverflowReply, ServerKind, no_tools_error, openai_error, status
from agentcall.testing.raw_http import (
    FakeResponse,
    RecordedRequest,
    make_json_response,
    read_request,
    send_response,
)
from agentcall.testing.replies import (
    RepeatedReply,
    Reply,
    ReplyFunction,
    Script,
    expand_script,
    require_replies,
    say,
)


class ServerProfileOptions(TypedDict, total=False):
    """The options of a `FakeServer`, described at `ServerProfile`."""

    models: Sequence[str]
    owned_by: str
    like: ServerKind
    context: int | None
    drops_tools: bool
    refuses_tools: bool
    answers_probes: bool
    rules: ChatRules | None
    pages: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """The properties of a fake server.

    models, owned_by: the ids and the owner on `/v1/models`.
    context, like: a prompt of more than `context` tokens is refused with the message of the server
        `like`, and consumes no reply of the script.
    drops_tools: tools are ignored; they do not count as prompt tokens, and the script and the brain
        do not see them.
    refuses_tools: a request with tools gets LMDeploy's 400.
    answers_probes: a probe (`RecordedRequest.is_probe`: a client asks for one token to measure what
        the server does with tools) consumes no reply of a sequence. It is answered with "Hi", or
        with the reply that the script repeats for ever, and recorded with the number 0. A function
        or a brain gets probes anyway. If false, a probe is a request like any other.
    rules: checks of the conversation, as chat templates make them (`agentcall.testing.chat_rules`);
        a refusal consumes no reply of the script.
    pages: additional or replaced pages by path: a reply, a JSON value, or None for a 404.
    """

    models: Sequence[str] = ("fake-model",)
    owned_by: str = "agentcall"
    like: ServerKind = "openai"
    context: int | None = None
    drops_tools: bool = False
    refuses_tools: bool = False
    answers_probes: bool = True
    rules: ChatRules | None = None
    pages: Mapping[str, object] = field(default_factory=dict[str, object])

    def answer_page(self, request: RecordedRequest) -> FakeResponse:
        """Answer a request for anything but a chat completion."""
        card = {"object": "model", "created": 0, "owned_by": self.owned_by}
        models = {"object": "list", "data": [{"id": name, **card} for name in self.models]}
        pages = {"/v1/models": models, "/health": {"status": "ok"}, **self.pages}
        page = pages.get(request.path)
        if page is None:
            message = f"there is no page {request.method} {request.path}"
            return make_json_response(openai_error(message, status=404), status=404)
        return page.answer(request) if isinstance(page, Reply) else make_json_response(page)

    def filter_request(self, request: RecordedRequest) -> RecordedRequest:
        """Return the request as the model sees it."""
        if not self.drops_tools:
            return request
        return replace(request, body={**request.body, "tools": []})

    def is_unscripted_probe(self, request: RecordedRequest) -> bool:
        """Whether the request is a probe that consumes no reply of the script."""
        return self.answers_probes and request.is_probe

    def refuse(self, request: RecordedRequest) -> FakeResponse | None:
        """Return the refusal of a chat request that does not reach the model, or None."""
        if problem := _find_problem(request):
            return make_json_response(openai_error(problem, status=400), status=400)
        if self.rules is not None and (refusal := self.rules.refuse(request)):
            return refusal
        if self.refuses_tools and request.tools:
            return make_json_response(no_tools_error(), status=400)
        filtered = self.filter_request(request)
        if self.context is not None and filtered.prompt_tokens > self.context:
            return OverflowReply(self.like, self.context).answer(filtered)
        return None


def _find_problem(request: RecordedRequest) -> str | None:
    content_type = request.headers.get("content-type", "nothing")
    if not content_type.startswith("application/json"):
        return f"the Content-Type must be application/json, not {content_type}"
    if not isinstance(request.body.get("messages"), list):
        return "the body must be a JSON object with a list of messages"
    return None


_HEAD_LIMIT = 2**20
_SCRIPT_THREADS = 64
_CHAT_PATH = "/v1/chat/completions"
_PROBE_REPLY = say("Hi").replace(finish_reason="length")


@dataclass(frozen=True, slots=True)
class _ServerThread:
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event


class FakeServer:
    """A server of the OpenAI chat completions protocol that plays a script.

    `with FakeServer([call("add", a=2, b=3), say("5")]) as server:` or `async with`.

    script: a sequence of replies, played in order, or a function that returns a reply for a
        request. After the last reply requests get a 500; end it with `forever(...)` to continue.
    brain: a function of messages and tools that returns a reply: a small rule-based model.
    profile: the options of `agentcall.testing.fake_server.ServerProfile`. By default a client's
        probe, a request with `max_tokens` 1, consumes no reply of a sequence.

    Functions are called in a thread.

    Raises:
        UsageError: the script is invalid, or a script and a brain are given.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        brain: ReplyFunction | None = None,
        **profile: Unpack[ServerProfileOptions],
    ) -> None:
        if brain is not None and script:
            raise UsageError("FakeServer got a script and a brain; give it one of them")
        self._profile = ServerProfile(**profile)
        self._port = 0
        self._running: _ServerThread | None = None
        self._abandoned_count = 0
        self.reset(script if brain is None else lambda r: brain(r.messages, r.tools))

    @property
    def url(self) -> str:
        """The base URL, `http://127.0.0.1:PORT/v1`; it stays the same after `stop`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The chat requests so far, in order of arrival."""
        return list(self._requests)

    @property
    def all_requests(self) -> list[RecordedRequest]:
        """Every request so far, to any page."""
        return list(self._all_requests)

    @property
    def abandoned_count(self) -> int:
        """The number of answers that the client did not read to the end."""
        return self._abandoned_count

    def reset(self, script: Script = ()) -> None:
        """Start again with another script and no recorded requests."""
        self._script = script if callable(script) else _ScriptPlayer(script)
        self._requests: list[RecordedRequest] = []
        self._all_requests: list[RecordedRequest] = []
        self._turns = 0
        self._abandoned_count = 0

    def start(self) -> None:
        """Listen on a free port; after a `stop`, on the same port again."""
        is_new = self._port == 0
        ready: Future[_ServerThread] = Future()
        threading.Thread(target=self._run, args=(ready,), name="FakeServer", daemon=True).start()
        self._running = ready.result()
        if is_new:  # the port may have been another server's before
            forget_server(self.url)

    def stop(self) -> None:
        """Close the port and all connections; does nothing if the server is not running."""
        running, self._running = self._running, None
        if running is not None:
            running.loop.call_soon_threadsafe(running.stop.set)
            running.thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await asyncio.to_thread(self.stop)

    def _run(self, ready: Future[_ServerThread]) -> None:
        try:
            asyncio.run(self._listen(ready))
        except OSError as error:
            ready.set_exception(error)

    async def _listen(self, ready: Future[_ServerThread]) -> None:
        connections: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = loop.create_task(self._serve_connection(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)
            task.add_done_callback(lambda _: writer.transport.abort())

        loop.set_default_executor(ThreadPoolExecutor(_SCRIPT_THREADS, "FakeServer"))
        server = await asyncio.start_server(
            accept, "127.0.0.1", self._port, limit=_HEAD_LIMIT, backlog=1024
        )
        self._port = server.sockets[0].getsockname()[1]
        stop = asyncio.Event()
        ready.set_result(_ServerThread(threading.current_thread(), loop, stop))
        await stop.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # Without a buffer, `drain` returns when a piece has been sent.
        writer.transport.set_write_buffer_limits(0)
        try:
            while (request := await read_request(reader, writer)) is not None:
                response = await self._respond(request)
                is_reusable = await send_response(response, reader, writer)
                if not is_reusable or request.headers.get("connection", "").lower() == "close":
                    break
        except ConnectionError:
            self._abandoned_count += 1
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _respond(self, request: RecordedRequest) -> FakeResponse:
        self._all_requests.append(request)
        if request.path != _CHAT_PATH or request.method != "POST":
            return self._profile.answer_page(request)
        is_probe = self._profile.is_unscripted_probe(request)
        self._turns += not is_probe
        request = replace(request, number=0 if is_probe else self._turns)
        self._requests.append(request)
        try:
            if refusal := self._profile.refuse(request):
                return refusal
            filtered = self._profile.filter_request(request)
            if not isinstance(self._script, _ScriptPlayer):
                reply = await asyncio.to_thread(self._script, filtered)
            elif is_probe:
                reply = self._script.constant or _PROBE_REPLY
            else:  # without an await before it, so that replies are played in order
                reply = self._script.next(filtered)
            return reply.answer(filtered)
        except Exception as error:  # a user's script may raise anything: report it to the client
            message = f"the script failed: {type(error).__name__}: {error}"
            return _make_failure(message).answer(request)


class _ScriptPlayer:
    """A sequence of replies and the position in it.

    `constant` is the reply of a script that repeats one for ever from its beginning.
    """

    def __init__(self, script: Sequence[object]) -> None:
        replies = require_replies(script)
        self._replies = expand_script(replies)
        self._size = len(replies)
        first = replies[0] if replies else None
        is_endless = isinstance(first, RepeatedReply) and first.times is None
        self.constant = first if is_endless else None

    def next(self, request: RecordedRequest) -> Reply:
        """Return the next reply, or an error after the last one."""
        message = (
            f"the script is over: request {request.number} came after the last of its {self._size}"
            " replies; add replies, or end it with forever(...)"
        )
        return next(self._replies, None) or _make_failure(message)


def _make_failure(message: str) -> Reply:
    # The openai client would retry a plain 500, which would hide the first failure.
    return status(500, body=openai_error(message), headers={"x-should-retry": "false"})
