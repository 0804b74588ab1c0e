"""`FakeServer`: a real HTTP server on loopback that plays a script and misbehaves on order.

What a fake server is like whatever it plays: its pages, its context window, its tools.
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
from agentcall.testing.faults import OverflowReply, ServerKind, no_tools_error, openai_error, status
from agentcall.testing.http import (
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
    say,
)


class ServerProfileOptions(TypedDict, total=False):
    """The options of a `FakeServer`; `ServerProfile` says what each is."""

    models: Sequence[str]
    owned_by: str
    like: ServerKind
    context: int | None
    drops_tools: bool
    refuses_tools: bool
    answers_probes: bool
    pages: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """The traits of a server.

    `models` (ids) and `owned_by` stand on `/v1/models`. A prompt of more than `context` tokens is
    refused in the words of the server that `like` names, and takes no reply from the script. With
    `drops_tools` tools are ignored: they do not count as prompt tokens, and no script or brain
    sees them. With `refuses_tools` a request with tools gets LMDeploy's 400. `pages` are more
    pages by path, or other ones: a reply, a JSON value, or None for a 404.

    Clients ask servers for one token to see what becomes of tools. With `answers_probes` such a
    request (`Request.is_probe`) takes no reply from a sequence: it is answered with "Hi", or with
    the reply that the script begins to play for ever. It stands in `requests`, with the number 0. A
    function or a brain is asked all the same. Without it a probe is a request like any other.
    """

    models: Sequence[str] = ("fake-model",)
    owned_by: str = "agentcall"
    like: ServerKind = "openai"
    context: int | None = None
    drops_tools: bool = False
    refuses_tools: bool = False
    answers_probes: bool = True
    pages: Mapping[str, object] = field(default_factory=dict[str, object])

    def answer_page(self, request: RecordedRequest) -> FakeResponse:
        """The answer to anything but a chat completion."""
        known = {"/v1/models": self._list_models(), "/health": {"status": "ok"}, **self.pages}
        page = known.get(request.path)
        if page is None:
            words = f"there is no page {request.method} {request.path}"
            return make_json_response(openai_error(words, status=404), status=404)
        return page.answer(request) if isinstance(page, Reply) else make_json_response(page)

    def _list_models(self) -> object:
        card = {"object": "model", "created": 0, "owned_by": self.owned_by}
        return {"object": "list", "data": [{"id": name, **card} for name in self.models]}

    def filter_request(self, request: RecordedRequest) -> RecordedRequest:
        """The request as the model sees it."""
        if not self.drops_tools:
            return request
        return replace(request, body={**request.body, "tools": []})

    def is_unscripted_probe(self, request: RecordedRequest) -> bool:
        """Whether the request is a probe, and no turn of a conversation."""
        return self.answers_probes and request.is_probe

    def refuse(self, request: RecordedRequest) -> FakeResponse | None:
        """The answer to a chat request that never reaches the model, or None."""
        if fault := _find_fault(request):
            return make_json_response(openai_error(fault, status=400), status=400)
        if self.refuses_tools and request.tools:
            return make_json_response(no_tools_error(), status=400)
        seen = self.filter_request(request)
        if self.context is not None and seen.prompt_tokens > self.context:
            return OverflowReply(self.like, self.context).answer(seen)
        return None


def _find_fault(request: RecordedRequest) -> str | None:
    kind = request.headers.get("content-type", "nothing")
    if not kind.startswith("application/json"):
        return f"the Content-Type must be application/json, not {kind}"
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

    `with FakeServer([call("add", a=2, b=3), say("5")]) as server:` or `async with`. The script is
    a sequence of replies, played in order (when it is over, a 500 says so; end it with
    `forever(...)` to go on), or a function of the request that gives a reply. `brain` is a function
    of messages and tools instead: a small model of rules. Both run in a thread of their own. A
    client's probe, a request with `max_tokens` 1, takes no reply of a sequence. The traits are
    described at `agentcall.testing.fake_server.Nature`.

    Raises:
        UsageError: a script that is no script, or a script and a brain.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        brain: ReplyFunction | None = None,
        **traits: Unpack[ServerProfileOptions],
    ) -> None:
        if brain is not None and script:
            raise UsageError("FakeServer got a script and a brain; give it one of them")
        self._profile = ServerProfile(**traits)
        self._port = 0
        self._running: _ServerThread | None = None
        self._abandoned_count = 0
        self.reset(script if brain is None else lambda asked: brain(asked.messages, asked.tools))

    @property
    def url(self) -> str:
        """The base URL, `http://127.0.0.1:PORT/v1`; it stays the same after `stop`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The chat requests so far, in the order they came."""
        return list(self._requests)

    @property
    def all_requests(self) -> list[RecordedRequest]:
        """Every request so far, to any page."""
        return list(self._all_requests)

    @property
    def abandoned_count(self) -> int:
        """How many answers the client did not wait for to the end."""
        return self._abandoned_count

    def reset(self, script: Script = ()) -> None:
        """Starts over with another script and no recorded requests."""
        self._script = script if callable(script) else _ScriptPlayer(script)
        self._requests: list[RecordedRequest] = []
        self._all_requests: list[RecordedRequest] = []
        self._turns = 0
        self._abandoned_count = 0

    def start(self) -> None:
        """Listens, on a free port the first time and on the same one after a `stop`."""
        ready: Future[_ServerThread] = Future()
        threading.Thread(target=self._run, args=(ready,), name="FakeServer", daemon=True).start()
        self._running = ready.result()

    def stop(self) -> None:
        """Closes the port and drops every open connection; does nothing when stopped."""
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
        conversations: set[asyncio.Task[None]] = set()

        def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._serve_connection(reader, writer))
            conversations.add(task)
            task.add_done_callback(conversations.discard)
            task.add_done_callback(lambda _: writer.transport.abort())

        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_SCRIPT_THREADS, "FakeServer"))
        server = await asyncio.start_server(
            converse, "127.0.0.1", self._port, limit=_HEAD_LIMIT, backlog=1024
        )
        self._port = server.sockets[0].getsockname()[1]
        stop = asyncio.Event()
        ready.set_result(_ServerThread(threading.current_thread(), loop, stop))
        await stop.wait()
        server.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    async def _serve_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.transport.set_write_buffer_limits(0)  # so that a drained piece has left
        try:
            while (request := await read_request(reader, writer)) is not None:
                more = await send_response(await self._respond(request), reader, writer)
                if not more or request.headers.get("connection", "").lower() == "close":
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
        request = replace(request, number=self._assign_number(request))
        self._requests.append(request)
        try:
            refusal = self._profile.refuse(request)
            return refusal or await self._play_reply(self._profile.filter_request(request))
        except Exception as error:  # a user's script: whatever it raises, the client is told
            return _make_failure(f"the script failed: {type(error).__name__}: {error}").answer(
                request
            )

    def _assign_number(self, request: RecordedRequest) -> int:
        if self._profile.is_unscripted_probe(request):
            return 0
        self._turns += 1
        return self._turns

    async def _play_reply(self, request: RecordedRequest) -> FakeResponse:
        if isinstance(self._script, _ScriptPlayer):  # at once, to keep the order
            apart = self._profile.is_unscripted_probe(request)
            reply = self._script.constant or _PROBE_REPLY if apart else self._script.next(request)
            return reply.answer(request)
        reply = await asyncio.to_thread(self._script, request)
        return reply.answer(request)


class _ScriptPlayer:
    """A sequence of replies and the place in it."""

    def __init__(self, script: Sequence[object]) -> None:
        replies = [reply for reply in script if isinstance(reply, Reply)]
        if wrong := [reply for reply in script if not isinstance(reply, Reply)]:
            raise UsageError(f"{wrong[0]!r} is no reply; a text is one as say({wrong[0]!r})")
        self._replies = expand_script(replies)
        self._size = len(replies)
        first = replies[0] if replies else None
        endless = isinstance(first, RepeatedReply) and first.times is None
        self.constant = first if endless else None
        """The one reply of a script that plays it for ever."""

    def next(self, request: RecordedRequest) -> Reply:
        """The next reply, or one that says that there is none."""
        words = (
            f"the script is over: request {request.number} came after the last of its {self._size}"
            " replies; add replies, or end it with forever(...)"
        )
        return next(self._replies, None) or _make_failure(words)


def _make_failure(words: str) -> Reply:
    # The openai client would ask again after a plain 500 and blur what went wrong.
    return status(500, body=openai_error(words), headers={"x-should-retry": "false"})
