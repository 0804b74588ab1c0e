"""Clients that stall: each connection has an end, and a client that does not stall is served."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from asgi_server import asked, connected, head, standing, status, until_end
from rows import each_row

from agentcall.serving.http_connection import ConnectionLimits, compute_max_connections

QUICK = ConnectionLimits(head=0.2, body=0.2, rate=1_000_000, write=0.2, max_connections=20)
ASK = ("Connection: close",)


class App:
    """Reads a body, or streams without end at /stream; notes which requests were left."""

    def __init__(self) -> None:
        self.left = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        message = await receive()
        while message.get("more_body"):
            message = await receive()
        if message["type"] == "http.disconnect":
            self.left.set()
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            await self._stream(receive, send)
        await send({"type": "http.response.body", "body": b"ok"})

    async def _stream(self, receive: Any, send: Any) -> None:
        leaving = asyncio.ensure_future(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
        self.left.set()


@contextmanager
def dripping(client: socket.socket, byte: bytes) -> Iterator[None]:
    """Sends a byte again and again, as long as the other side takes it."""
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.05):
            try:
                client.sendall(byte)
            except OSError:
                return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)


@each_row(
    "begun",
    [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"],
)
def test_a_head_that_never_ends_ends_the_connection(begun: bytes) -> None:
    with standing(App(), QUICK) as port, closing(connected(port)) as client:
        client.sendall(begun)
        assert until_end(client) == b""


def test_a_head_that_drips_does_too() -> None:
    with standing(App(), QUICK) as port, closing(connected(port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: ")
        with dripping(client, b"a"):
            assert until_end(client) == b""


def test_a_head_that_drips_behind_an_answer_does_too() -> None:
    with standing(App(), QUICK) as port, closing(connected(port)) as client:
        client.sendall(head(port))
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        with dripping(client, b"a"):
            until_end(client)


@each_row("drop", [b"", b"a"])
@each_row("line", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_a_body_that_never_ends_ends_the_request(line: str, drop: bytes) -> None:
    app = App()
    with standing(app, QUICK) as port, closing(connected(port)) as client:
        chunk = b"1\r\na\r\n" if "chunked" in line else drop
        client.sendall(head(port, "POST", "/", line))
        with dripping(client, chunk if drop else b""):
            assert until_end(client) == b""
        assert app.left.wait(10)


def test_a_body_that_comes_steadily_is_waited_for() -> None:
    patience = ConnectionLimits(head=5, body=0.1, rate=1000, write=5, max_connections=20)
    with standing(App(), patience) as port, closing(connected(port)) as client:
        client.sendall(head(port, "POST", "/", *ASK, "Content-Length: 8000"))
        for _ in range(8):
            client.sendall(b"x" * 1000)
            time.sleep(0.1)  # a tenth of what a thousand bytes may take
        assert status(until_end(client)) == 200


def test_a_stream_that_nobody_reads_ends() -> None:
    app = App()
    with standing(app, QUICK) as port, closing(connected(port)) as client:
        client.sendall(head(port, "GET", "/stream"))
        assert app.left.wait(30)


def test_a_stream_that_is_read_goes_on() -> None:
    app = App()
    with standing(app, QUICK) as port, closing(connected(port)) as client:
        client.sendall(head(port, "GET", "/stream"))
        end = time.monotonic() + 1  # longer than any patience
        while time.monotonic() < end:
            assert client.recv(65536)
        assert not app.left.is_set()


def test_an_answer_that_nobody_takes_does_not_keep_its_connection() -> None:
    async def huge(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 50_000_000})

    with standing(huge, QUICK) as port, closing(connected(port)) as client:
        client.sendall(head(port))
        time.sleep(1)  # five times what it may take
        assert len(until_end(client)) < 50_000_000


def test_clients_that_stall_make_room_for_one_that_does_not() -> None:
    begun: list[Callable[[int], bytes]] = [
        lambda port: b"",
        lambda port: b"GET / HTTP/1.1\r\n",
        lambda port: head(port, "POST", "/", "Content-Length: 100"),
    ]
    patience = ConnectionLimits(head=300, body=300, write=300, max_connections=20)
    with standing(App(), patience) as port, ExitStack() as stack:
        for number in range(100):
            client = stack.enter_context(closing(connected(port)))
            client.sendall(begun[number % 3](port))
            if number % 10 == 0:
                assert status(asked(port, head(port, "GET", "/", *ASK))) == 200


def test_a_client_that_is_served_is_not_thrown_out_for_those_that_stall() -> None:
    patience = ConnectionLimits(head=300, body=300, write=300, max_connections=20)
    with standing(App(), patience) as port, ExitStack() as stack:
        good = stack.enter_context(closing(connected(port)))
        for _ in range(40):
            stack.enter_context(closing(connected(port))).sendall(b"GET / HT")
            good.sendall(head(port))
            came = b""
            while not came.endswith(b"0\r\n\r\n"):
                piece = good.recv(65536)
                assert piece
                came += piece
            assert status(came) == 200


def test_where_all_are_being_served_the_next_is_told_to_come_back() -> None:
    patience = ConnectionLimits(head=300, body=300, write=300, max_connections=3)
    with standing(App(), patience) as port, ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(closing(connected(port)))
            client.sendall(head(port, "GET", "/stream"))
            assert client.recv(65536)
        with closing(connected(port)) as late:
            assert status(until_end(late)) == 503


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_there_are_no_more_connections_than_half_of_the_descriptors() -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        assert compute_max_connections() == 128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
