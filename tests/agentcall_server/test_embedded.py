from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentcall_server import EmbeddedServer
from agentcall_server.embedded_server import require_runtime
from agentcall_server.errors import BadModelFile, RuntimeMissing, ServerDied
from agentcall_server.llama_server import count_usable_cores

pytestmark = pytest.mark.embedded

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"const": "add"},
        "arguments": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
    "required": ["name", "arguments"],
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "call", "schema": SCHEMA}}
SYSTEM = "Answer with one JSON object: the tool add and its integer arguments a and b. " * 6


class Screen:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, done: int, total: int | None) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


def get(server: EmbeddedServer, path: str) -> Any:  # Any: JSON of llama.cpp
    root = server.url.removesuffix("/v1")
    with urllib.request.urlopen(root + path, timeout=30) as answer:
        return json.load(answer)


def ask(server: EmbeddedServer, **body: object) -> Any:  # Any: JSON of llama.cpp
    return json.loads(post(server, body))


def post(server: EmbeddedServer, body: dict[str, object]) -> str:
    request = urllib.request.Request(
        f"{server.url}/chat/completions",
        json.dumps({"model": server.model, "temperature": 0, **body}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=180) as answer:
        return str(answer.read().decode())


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def is_gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and is_alive(pid):
        time.sleep(0.1)
    return not is_alive(pid)


def test_it_is_healthy_and_shows_its_name(server: EmbeddedServer) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    assert get(server, "/health") == {"status": "ok"}
    (shown,) = get(server, "/v1/models")["data"]
    assert shown["id"] == server.model == "qwen2.5-coder-1.5b"
    assert shown["meta"]["n_ctx"] == server.context == 8192


def test_it_answers(server: EmbeddedServer) -> None:
    answer = ask(server, messages=user("What is the capital of France? One word."), max_tokens=16)
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0


def test_it_streams_and_counts(server: EmbeddedServer) -> None:
    text = post(
        server,
        {
            "messages": user("What is the capital of Italy? One word."),
            "max_tokens": 16,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    chunks = [json.loads(line) for line in lines]
    assert chunks[-1]["usage"]["total_tokens"] > 0
    deltas = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    assert "Rome" in "".join(delta or "" for delta in deltas)


def test_a_schema_binds_the_answer_and_the_prefix_is_kept(server: EmbeddedServer) -> None:
    messages = [{"role": "system", "content": SYSTEM}, *user("What is 3 plus 5?")]
    first = ask(server, messages=messages, response_format=FORMAT)
    content = first["choices"][0]["message"]["content"]
    assert json.loads(content) == {"name": "add", "arguments": {"a": 3, "b": 5}}
    more = [{"role": "assistant", "content": content}, *user("add(3, 5) = 8. Now add 2 to it.")]
    second = ask(server, messages=messages + more, response_format=FORMAT)
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"] - 8


def test_a_prompt_beyond_the_window_is_refused_in_words(server: EmbeddedServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(server, messages=user("hello world " * 5000))
    with caught.value as answer:
        error = json.load(answer)["error"]
    assert caught.value.code == error["code"] == 400
    assert error["type"] == "exceed_context_size_error"
    assert error["n_prompt_tokens"] > error["n_ctx"] == 8192


def test_requests_at_the_same_time_wait_their_turn(server: EmbeddedServer) -> None:
    def number(n: int) -> str:
        question = user(f"Repeat exactly: number {n}")
        answer = ask(server, messages=question, max_tokens=12)
        return str(answer["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(number, [17, 23, 42, 99]))
    assert all(str(n) in text for n, text in zip([17, 23, 42, 99], answers, strict=True))


# Without a stream llama.cpp notices nobody's leaving, and works to the answer's end.
def test_a_client_that_leaves_a_stream_stops_the_work(server: EmbeddedServer) -> None:
    port = int(server.url.removesuffix("/v1").rpartition(":")[2])
    body: dict[str, object] = {"messages": user("Count from 1 to 900."), "stream": True}
    text = json.dumps({**body, "max_tokens": 3000}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n"
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + text)
        assert _becomes(server, busy=True, seconds=10)
    assert _becomes(server, busy=False, seconds=20)


def _becomes(server: EmbeddedServer, *, busy: bool, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if get(server, "/slots")[0]["is_processing"] == busy:
            return True
        time.sleep(0.1)
    return False


def test_a_web_page_may_not_use_it(server: EmbeddedServer) -> None:
    root = server.url.removesuffix("/v1")
    for origin in ("https://elsewhere.example", "null"):
        request = urllib.request.Request(f"{root}/health", headers={"Origin": origin})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] not in ("*", origin)


def test_stop_ends_the_process_and_its_memory(server: EmbeddedServer) -> None:
    pid = server.pid
    assert pid is not None
    server.stop()
    assert not is_alive(pid)
    assert not server.is_running
    server.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.url


PARENT = (
    "import sys, time, os\n"
    "from agentcall_server import EmbeddedServer\n"
    "server = EmbeddedServer(context=512).start()\n"
    "print(server.pid, flush=True)\n"
    "if sys.argv[1] == 'fork' and os.fork() == 0: time.sleep(300)\n"
    "if sys.argv[1] != 'exit': time.sleep(300)\n"
)


@pytest.mark.parametrize("how", ["exit", "kill", "fork"])
def test_no_server_outlives_its_parent(how: str) -> None:
    """However it ends: by itself, by kill -9, and with a forked child that holds its pipes."""
    command = [sys.executable, "-c", PARENT, how]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if how == "exit":
            assert parent.wait(20) == 0
        else:
            assert is_alive(pid)
            parent.kill()
        try:
            assert is_gone_within(pid, 8)
        finally:
            if how == "fork":
                os.killpg(parent.pid, signal.SIGKILL)


def test_a_file_that_is_no_gguf_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    with pytest.raises(BadModelFile, match=r"page\.gguf is not a GGUF file: it begins with b'<htm"):
        EmbeddedServer(tmp_path / "page.gguf", cache=tmp_path, report=Screen()).start()


def test_a_broken_gguf_is_told_in_the_words_of_llama_cpp(tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\xff" * 64)
    with pytest.raises(BadModelFile, match=r"cannot load .*cut\.gguf.*gguf_init") as caught:
        EmbeddedServer(tmp_path / "cut.gguf", cache=tmp_path, report=Screen()).start()
    (log,) = (tmp_path / "logs").iterdir()
    assert str(log) in str(caught.value)


def test_a_server_that_dies_shows_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "any.gguf").write_bytes(b"GGUF")
    (tmp_path / "xllamacpp.py").write_text("import sys; sys.exit('the last words')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ServerDied, match=r"(?s)ended with code 1 .*the last words"):
        EmbeddedServer(tmp_path / "any.gguf", cache=tmp_path, report=Screen()).start()


def test_without_the_runtime_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_module(name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", no_module)
    with pytest.raises(RuntimeMissing, match=r"pip install .*\[embedded\]"):
        require_runtime()


def test_a_runtime_that_cannot_be_imported_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "any.gguf").write_bytes(b"GGUF")
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('no libgomp here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeMissing, match="no libgomp here"):
        EmbeddedServer(tmp_path / "any.gguf", cache=tmp_path, report=Screen()).start()


def test_loading_is_shown() -> None:
    screen = Screen()
    with EmbeddedServer(context=512, report=screen) as server:
        assert server.context == 512
        assert server.log is not None
        assert server.log.stat().st_size > 0
    assert screen.said[0].startswith("loading qwen2.5-coder-1.5b")
    assert "loaded qwen2.5-coder-1.5b" in screen.said[-1]


def test_a_window_is_shared_by_the_slots() -> None:
    with EmbeddedServer(context=1024, slots=2, report=Screen()) as server:
        slots = get(server, "/slots")
        assert [slot["n_ctx"] for slot in slots] == [1024, 1024]


def test_it_uses_no_more_threads_than_it_may() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert count_usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert 1 <= count_usable_cores() <= len(allowed)
