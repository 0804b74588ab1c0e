"""Who may ask a server of ours, and what: one rule for all doors, tried with bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from asgi_server import asked, connected, head, standing, status
from hypothesis import given
from hypothesis import strategies as st
from rows import each_row

from agentcall.errors import UsageError
from agentcall.serving.http_security import (
    AccessPolicy,
    ASGIMessage,
    JSONLimits,
    Scope,
    SecurityMiddleware,
    build_access_policy,
)

JSON = "application/json"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with how long the body was."""
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message.get("body") or b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


TERMS = AccessPolicy(
    types=frozenset({JSON}),
    origins=frozenset({"https://chat.example", "http://localhost:3000"}),
    pages=frozenset({"/page"}),
    limit=1000,
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with standing(SecurityMiddleware(echo, TERMS)) as port:
        yield port


def told(port: int, *lines: str, method: str = "GET", path: str = "/", body: bytes = b"") -> int:
    """The status of the answer to a request with these lines in its head."""
    more = [f"Content-Length: {len(body)}"] if body else []
    return status(asked(port, head(port, method, path, "Connection: close", *more, *lines) + body))


@each_row(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil@127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1/evil.example",
        "127.0.0.1#evil.example",
        "127.0.0.1:99999999",
        "127.0.0.1:x",
        "localhost.",
        "lo\xe7alhost",
        "[::1",
        "[::1]evil",
        "127.0.0.1, evil.example",
    ],
)
def test_a_host_that_is_not_ours_is_refused(port: int, host: str) -> None:
    answer = asked(port, head(port, "GET", "/", "Connection: close", host=host))
    assert status(answer) in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST:80", "[::1]:8001", "localhost:1"])
def test_our_own_names_are_taken(port: int, host: str) -> None:
    assert status(asked(port, head(port, "GET", "/", "Connection: close", host=host))) == 200


@each_row(
    "origin",
    [
        "http://localhost:5173",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "https://evil.example",
        "https://chat.example.evil.example",
        "https://chat.example:444",
        "http://chat.example",
        "null",
        "",
        "\xff",
        "http://[",
        "file://",
    ],
)
def test_a_page_of_another_origin_may_not_ask(port: int, origin: str) -> None:
    assert told(port, f"Origin: {origin}") == 403
    assert told(port, f"Origin: {origin}", "Sec-Fetch-Site: cross-site", method="OPTIONS") == 403


def test_a_page_of_this_server_and_of_named_origins_may(port: int) -> None:
    assert told(port, f"Origin: http://127.0.0.1:{port}", "Sec-Fetch-Site: same-origin") == 200
    assert told(port, "Origin: https://chat.example", "Sec-Fetch-Site: cross-site") == 200
    assert told(port, "Origin: http://localhost:3000", "Sec-Fetch-Site: same-site") == 200


def test_what_a_browser_asks_for_another_page_is_refused_without_an_origin_too(port: int) -> None:
    for site in ("cross-site", "same-site", "\xff"):
        assert told(port, f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: no-cors") == 403
        assert told(port, f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: navigate") == 403
    opened = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
    assert told(port, *opened, path="/page") == 200
    assert told(port, *opened, path="/page", method="POST") == 403


def test_an_origin_is_named_as_browsers_write_it() -> None:
    named = ["https://Chat.Example/", "http://localhost:3000"]
    assert build_access_policy("127.0.0.1", {}, named).origins == {
        "https://chat.example",
        "http://localhost:3000",
    }
    for wrong in ("*", "chat.example", "https://chat.example/page", "null", "ftp://x"):
        with pytest.raises(UsageError, match="is not a scheme"):
            build_access_policy("127.0.0.1", {}, [wrong])


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "x", "\xff"])
def test_a_body_that_a_form_can_send_is_refused(port: int, kind: str) -> None:
    assert told(port, f"Content-Type: {kind}", method="POST", body=b"{}") == 415


def test_json_is_taken_however_it_is_written(port: int) -> None:
    for kind in (JSON, "Application/JSON; charset=utf-8", f" {JSON} ;x"):
        assert told(port, f"Content-Type: {kind}", method="POST", body=b"{}") == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "\xff"])
def test_a_body_in_a_content_coding_is_refused(port: int, coding: str) -> None:
    lines = (f"Content-Type: {JSON}", f"Content-Encoding: {coding}")
    assert told(port, *lines, method="POST", body=b"\x1f\x8b") == 415


@pytest.mark.parametrize(
    "line",
    [
        "Host: evil.example",
        "Origin: https://chat.example",
        "Authorization: Bearer x",
        f"Content-Type: {JSON}",
    ],
)
def test_a_header_that_is_there_twice_is_refused(port: int, line: str) -> None:
    assert told(port, line, line) == 400


@each_row("length", ["1001", "9" * 18, "9" * 19, "9" * 5000, "-1", "x", "1, 2"])
def test_a_length_that_is_too_large_or_is_none_is_refused(port: int, length: str) -> None:
    lines = ("Connection: close", f"Content-Length: {length}")
    with closing(connected(port)) as client:
        client.sendall(head(port, "POST", "/", *lines))
        assert status(client.recv(65536)) in (400, 413)


def test_a_body_that_grows_beyond_the_limit_is_refused(port: int) -> None:
    lines = ("Connection: close", f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
    chunks = b"".join(b"64\r\n" + b" " * 100 + b"\r\n" for _ in range(20))
    assert status(asked(port, head(port, "POST", "/", *lines) + chunks + b"0\r\n\r\n")) == 413


def test_a_method_is_what_the_first_line_says(port: int) -> None:
    assert told(port, "X-HTTP-Method-Override: PUT", "X-Method: DELETE") == 200


@each_row(
    "body",
    [
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'"\\\\' + b'"' + b"[" * 100,
        "[1]".encode("utf-16"),
        b"{}\0",
    ],
)
def test_a_deep_body_is_refused_before_it_is_read(port: int, body: bytes) -> None:
    for kind in ((f"Content-Type: {JSON}",), ()):
        assert told(port, *kind, method="POST", body=body) == 400


def test_brackets_in_a_text_are_not_levels(port: int) -> None:
    body = json.dumps(["[" * 400, '"' + "{" * 100, "\\", '\\"[[[']).encode()
    assert told(port, f"Content-Type: {JSON}", method="POST", body=body) == 200


def excess(text: bytes, *, depth: int, values: int, piece: int = 1 << 20) -> str:
    """What is too much of a text that comes in pieces."""
    bounds = JSONLimits(depth=depth, values=values)
    pieces = (text[start : start + piece] for start in range(0, max(len(text), 1), piece))
    return next(filter(None, map(bounds.find_excess, pieces)), "")


def test_a_body_of_many_values_is_refused_before_it_is_read() -> None:
    assert "more than 1,000 values" in excess(b"[" + b"1," * 1000 + b"1]", depth=9, values=1000)
    assert "more than 1,000 values" in excess(b"[]" * 1001, depth=9, values=1000)
    assert "more than 1,000 values" in excess(b'"' * 5000, depth=9, values=1000)
    assert not excess(b"[" + b"1," * 900 + b"1]", depth=9, values=1000)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


def _deep(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_deep, inner), default=0) if isinstance(value, list | dict) else 0


@given(VALUES, st.booleans(), st.integers(1, 9))
def test_the_depth_that_is_counted_is_the_depth_that_is_there(
    value: Any, ascii_only: bool, piece: int
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    deep = _deep(value)
    assert not excess(text, depth=deep, values=1000, piece=piece)
    assert deep == 0 or "levels deep" in excess(text, depth=deep - 1, values=1000, piece=piece)


@each_row("given", ["Bearer \xff", "Bearer", "Bearer  ", "bearer k2", "Basic k", ""])
def test_only_a_key_that_was_given_out_lets_in(given: str) -> None:
    with standing(
        SecurityMiddleware(echo, AccessPolicy(keys={"k": "Ann", "schl\u00fcssel": "Bob"}))
    ) as port:
        assert told(port, f"Authorization: {given}") == 401
        assert told(port, "Authorization: BEARER k") == 200
        key = "schl\u00fcssel".encode().decode("latin-1")
        assert told(port, f"Authorization: Bearer {key}") == 200


def make_scope(length: int, *headers: tuple[bytes, bytes]) -> Scope:
    lines = [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers]
    if length:
        lines.append((b"content-length", str(length).encode()))
    return {"type": "http", "method": "POST", "path": "/", "headers": lines}


@pytest.mark.parametrize("length", [0, 3_000], ids=["chunked", "declared"])
async def test_the_rest_of_a_refused_body_is_read_before_the_response_ends(length: int) -> None:
    log: list[str] = []
    chunks = iter([b" " * 1_000] * 3)

    async def receive() -> ASGIMessage:
        chunk = next(chunks, None)
        log.append("read" if chunk else "read all")
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def send(message: ASGIMessage) -> None:
        log.append(f"send {message.get('status') or len(message['body'])}")

    access = AccessPolicy(limit=500)
    await SecurityMiddleware(echo, access)(make_scope(length), receive, send)
    assert "send 413" in log
    content = log.index("send 413") + 1
    assert log[content].startswith("send ")
    assert log[content + 1 :][-2:] == ["read all", "send 0"]


async def test_a_client_that_waits_for_continue_is_not_waited_for() -> None:
    async def receive() -> ASGIMessage:
        raise AssertionError("the client sends nothing")

    sent: list[ASGIMessage] = []

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    scope = make_scope(3_000, (b"expect", b"100-continue"))
    await SecurityMiddleware(echo, AccessPolicy(limit=500))(scope, receive, send)
    assert sent[0]["status"] == 413
    assert not sent[-1]["more_body"]
