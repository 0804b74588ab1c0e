"""The server that programs share, with the real model: they need 1.1 GB and a few seconds each."""

from __future__ import annotations

import json
import os
import signal
import stat
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

from agentcall_server import fetch, lookup
from agentcall_server.errors import BadModelFile, BadValue
from agentcall_server.shared_server import SharedServer, ensure, find_shared, get_keep_alive

pytestmark = pytest.mark.embedded

SYSTEM = [{"role": "system", "content": "You answer questions about tea and cake. " * 20}]
WAIT = 60.0


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """A cache of its own with the model in it; all servers of it end with the test."""
    (tmp_path / "models").mkdir()
    model = fetch(lookup(None))
    (tmp_path / "models" / model.name).symlink_to(model)
    yield tmp_path
    for file in (tmp_path / "servers").glob("*.json"):
        pid = json.loads(file.read_text())["pid"]
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def is_gone(pid: int) -> bool:
    end = time.monotonic() + WAIT
    while time.monotonic() < end and is_alive(pid):
        time.sleep(0.1)
    return not is_alive(pid)


def ask_text(
    server: SharedServer, before: list[dict[str, str]], question: str, max_tokens: int
) -> str:
    messages = [*before, {"role": "user", "content": question}]
    answer = post(server, {"messages": messages, "max_tokens": max_tokens, "temperature": 0})
    return str(answer["choices"][0]["message"]["content"])


def ask(server: SharedServer, question: str, key: str | None = None) -> Any:  # Any: JSON
    body = {"messages": [*SYSTEM, {"role": "user", "content": question}], "max_tokens": 4}
    return post(server, body, key)


def post(server: SharedServer, body: dict[str, object], key: str | None = None) -> Any:  # Any: JSON
    request = urllib.request.Request(
        f"{server.url}/chat/completions",
        json.dumps(body).encode(),
        {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {server.api_key if key is None else key}",
        },
    )
    with urllib.request.urlopen(request, timeout=180) as answer:
        return json.load(answer)


PROGRAM = (
    "import sys\n"
    "from pathlib import Path\n"
    "from agentcall_server import SharedServer\n"
    "server = SharedServer(keep_alive=float(sys.argv[2]), cache=Path(sys.argv[1])).start()\n"
    "print(server.pid, flush=True)\n"
    "sys.stdin.read()\n"
)


def start_program(cache: Path, keep_alive: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(cache), str(keep_alive)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read_pid(program: subprocess.Popen[str]) -> int:
    assert program.stdout is not None
    return int(program.stdout.readline())


def test_the_next_program_uses_the_same_server_and_what_it_has_read(cache: Path) -> None:
    first = SharedServer(keep_alive=WAIT, cache=cache).start()
    pid = first.pid
    steps = list(first.read_prompt(SYSTEM))
    assert steps[-1][0] == steps[-1][1] > 100
    (state,) = (cache / "prompts").glob("*.state")
    assert state.stat().st_size > 1_000_000
    first.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = first.url
    with start_program(cache, 0.0) as program:
        assert read_pid(program) == pid
        second = SharedServer(keep_alive=0.0, cache=cache).start()
        assert list(second.read_prompt(SYSTEM)) == []
        usage = ask(second, "Is there tea?")["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] > 100
        second.stop()
        assert is_alive(read_or_fail(pid))
        program.communicate("")
    assert is_gone(read_or_fail(pid))
    assert list((cache / "servers").glob("*.json")) == []


def read_or_fail(pid: int | None) -> int:
    assert pid is not None
    return pid


def test_a_server_that_was_started_anew_loads_what_another_has_read(cache: Path) -> None:
    first = SharedServer(keep_alive=0.0, cache=cache).start()
    pid = read_or_fail(first.pid)
    assert list(first.read_prompt(SYSTEM))
    first.stop()
    assert is_gone(pid)
    second = SharedServer(keep_alive=0.0, cache=cache).start()
    assert list(second.read_prompt(SYSTEM)) == []
    assert ask(second, "Is there tea?")["usage"]["prompt_tokens_details"]["cached_tokens"] > 100
    for state in (cache / "prompts").glob("*.state"):
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        state.write_bytes(b"damaged")
    pid = read_or_fail(second.pid)
    second.stop()
    assert is_gone(pid)
    third = SharedServer(keep_alive=0.0, cache=cache).start()
    assert list(third.read_prompt(SYSTEM))
    third.stop()


def test_reading_the_prompt_of_one_program_leaves_the_answer_of_another_alone(cache: Path) -> None:
    def count(server: SharedServer) -> str:
        return ask_text(server, [], "Count from 1 to 40, separated by commas.", 120)

    server = SharedServer(keep_alive=0.0, cache=cache).start()
    alone = count(server)
    assert "29, 30" in alone
    assert ask_text(server, SYSTEM, "Is there tea?", 8)  # is in the cache of prompts from now on
    ask_text(server, [], "Hello.", 4)
    with ThreadPoolExecutor(1) as pool:
        counting = pool.submit(count, server)
        time.sleep(1.0)  # it generates
        similar = [{"role": "system", "content": f"{SYSTEM[0]['content']} Be brief."}]
        assert list(server.read_prompt(similar))
        assert counting.result(WAIT) == alone
    server.stop()


def test_a_killed_program_leaves_no_server_behind(cache: Path) -> None:
    with start_program(cache, 0.0) as program:
        pid = read_pid(program)
        assert os.getpgid(pid) == pid
        program.kill()
    assert is_gone(pid)


def test_a_server_with_other_options_is_replaced(cache: Path) -> None:
    first = SharedServer(keep_alive=WAIT, cache=cache).start()
    old = read_or_fail(first.pid)
    second = SharedServer(keep_alive=0.0, context=1024, cache=cache).start()
    assert second.pid != old
    assert is_alive(old)
    first.stop()
    assert is_gone(old)
    second.stop()


def test_a_server_that_was_killed_is_started_again(cache: Path) -> None:
    server = SharedServer(keep_alive=0.0, cache=cache).start()
    before = read_or_fail(server.pid)
    os.kill(before, signal.SIGKILL)
    end = time.monotonic() + WAIT
    while server.is_running and time.monotonic() < end:
        time.sleep(0.05)
    assert not server.is_running
    assert server.start().pid != before
    server.stop()


def test_programs_that_start_at_once_share_one_server(cache: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        servers = [SharedServer(keep_alive=0.0, cache=cache) for _ in range(3)]
        assert len({server.pid for server in pool.map(SharedServer.start, servers)}) == 1
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(servers[0], "Is there tea?", key="")
    for server in servers:
        server.stop()


def test_a_process_has_one_share_of_a_server() -> None:
    assert find_shared() is find_shared()


def test_a_broken_file_is_reported_by_a_shared_server(cache: Path) -> None:
    broken = cache / "cut.gguf"
    broken.write_bytes(b"GGUF" + b"\x03\0\0\0" + b"\xff" * 64)
    with pytest.raises(BadModelFile, match=r"cannot load .*cut\.gguf"):
        SharedServer(broken, keep_alive=0.0, cache=cache).start()


def test_the_time_to_keep_a_server_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AGENTCALL_KEEP_ALIVE", raising=False)
    assert get_keep_alive() == 300.0
    monkeypatch.setenv("AGENTCALL_KEEP_ALIVE", "2h")
    assert get_keep_alive() == 7200.0
    monkeypatch.setenv("AGENTCALL_KEEP_ALIVE", "soon")
    with pytest.raises(BadValue, match=r"'soon' is not a duration; write 5m"):
        ensure()
