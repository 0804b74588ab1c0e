"""Health checks of a server: ready, loading, unhealthy, unreachable."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agentcall_server.http_client import ServerEndpoint
from agentcall_server.ports import reserve_port

Answers = dict[str, tuple[int, object]]
Serve = Callable[[Answers], str]
MODELS = (200, {"data": [{"id": "m1"}, {"id": "m2"}]})


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves answers by path, with a key of `right`; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: Mapping[str, tuple[int, object]]) -> str:
        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answers[self.path]
                if status == 401 and self.headers["Authorization"] == "Bearer right":
                    status, body = MODELS
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Answering))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("health", [b"", {"status": "healthy"}])
def test_a_healthy_server_with_models_is_ready(serve: Serve, health: object) -> None:
    door = ServerEndpoint(serve({"/health": (200, health), "/v1/models": MODELS}))
    assert door.served_models == ("m1", "m2")
    assert door.is_answering
    assert door.engine_error == ""


@pytest.mark.parametrize(
    "answers",
    [
        {"/health": (503, {"status": "initializing"}), "/v1/models": MODELS},
        {"/health": (200, b""), "/v1/models": (404, b"no")},
        {"/health": (200, b""), "/v1/models": (200, b"<html>")},
        {"/health": (200, b""), "/v1/models": (200, {"data": []})},
        {"/health": (200, b""), "/v1/models": (200, {"data": ["m"]})},
        {"/health": (200, b""), "/v1/models": (200, [])},
    ],
)
def test_what_has_no_models_yet_is_not_ready(serve: Serve, answers: Answers) -> None:
    assert ServerEndpoint(serve(answers)).served_models == ()


def test_nobody_is_not_ready() -> None:
    with reserve_port("127.0.0.1") as held:
        door = ServerEndpoint(f"http://127.0.0.1:{held.getsockname()[1]}")
        assert (door.served_models, door.is_answering, door.engine_error) == ((), False, "")


def test_a_server_with_a_key_is_asked_with_it_and_the_key_is_not_shown(serve: Serve) -> None:
    root = serve({"/health": (200, b""), "/v1/models": (401, {})})
    assert ServerEndpoint(root).served_models == ()
    assert ServerEndpoint(root, "right").served_models == ("m1", "m2")
    assert "right" not in repr(ServerEndpoint(root, "right"))


def test_only_a_server_that_calls_itself_unhealthy_complains(serve: Serve) -> None:
    sick = {"status": "unhealthy", "message": "engine loop died"}
    assert ServerEndpoint(serve({"/health": (503, sick)})).engine_error == "engine loop died"
    assert ServerEndpoint(serve({"/health": (503, {"status": "sleeping"})})).engine_error == ""


def test_a_proxy_of_the_environment_is_not_asked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ServerEndpoint(serve({"/health": (200, b""), "/v1/models": MODELS})).served_models
